// Handshakes on several threads at once, with shared configurations: TLS 1.3 keeps its keys in one
// store of the library, which must be locked. Most telling under ThreadSanitizer.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/tls/dtls_pair.h"
#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/tls_pair.h"

namespace culvert::tls {
namespace {

TEST(Threads, ShakeHandsWithSharedConfigurations) {
  const Identity ca = make_ca("Test CA");
  const Identity server = make_server(ca, {"vpn.example.com"});
  const Identity client = make_client(ca, "alice");
  const auto config = [&ca](Role role, const Identity& own) {
    TlsOptions options;
    options.role = role;
    options.certificate_chain_pem = own.certificate;
    options.private_key_pem = own.key.clone();
    options.trusted_ca_pem = ca.certificate;
    options.crl_pem = make_crl(ca, {});
    options.crl_required = true;
    return *TlsConfig::build(options);
  };
  const auto client_config = config(Role::kClient, client);
  const auto server_config = config(Role::kServer, server);
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) {
        Pair pair(client_config, server_config, "vpn.example.com");
        pair.shake_hands();
        if (pair.both_done() && judge_client(*pair.server.session).accepted() &&
            Pair::carry(pair.client, pair.server, "ping") == "ping") {
          ++good;
        }
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(40, good.load());
}

TEST(Threads, ShareADtlsConfigurationAndACookieKey) {
  DtlsOptions server;
  server.role = Role::kServer;
  server.cid_size = kServerCidSize;
  server.cookie_key = DtlsCookieKey::generate();
  const auto shared = *DtlsConfig::build(server);
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        DtlsPairOptions options;
        options.server = server;
        options.shared_server = shared;
        options.client.cid_size = 0;
        DtlsPair pair(std::move(options));
        pair.shake_hands();
        if (pair.both_done() && DtlsPair::carry(*pair.client, *pair.server, "ping") == "ping") {
          ++good;
        }
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(100, good.load());
}

}  // namespace
}  // namespace culvert::tls
