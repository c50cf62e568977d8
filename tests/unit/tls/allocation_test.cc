// The packet path of a TLS or DTLS session allocates nothing, counted under C++ and mbedTLS alike:
// both end in malloc, which this program replaces by a counting one.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "tests/unit/tls/dtls_pair.h"
#include "tests/unit/tls/pki.h"
#include "tests/unit/tls/tls_pair.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CULVERT_MALLOC_IS_TAKEN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CULVERT_MALLOC_IS_TAKEN
#endif
#endif

#ifndef CULVERT_MALLOC_IS_TAKEN

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
}
}  // namespace

// glibc's own, under the names that it keeps for this purpose.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);

void* malloc(size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(size_t number, size_t size) {
  count();
  return __libc_calloc(number, size);
}
void* realloc(void* old, size_t size) {
  count();
  return __libc_realloc(old, size);
}
}

namespace culvert::tls {
namespace {

TEST(Allocation, NonePerRecordOnceWarm) {
  const Identity ca = make_ca("Test CA");
  const Identity server = make_server(ca, {"vpn.example.com"});
  const Identity client = make_client(ca, "alice");
  const auto config = [&ca](Role role, const Identity& own, Version version) {
    TlsOptions options;
    options.role = role;
    options.certificate_chain_pem = own.certificate;
    options.private_key_pem = own.key.clone();
    options.trusted_ca_pem = ca.certificate;
    options.max_version = version;
    return *TlsConfig::build(options);
  };
  for (const Version version : {Version::k13, Version::k12}) {
    Pair pair(config(Role::kClient, client, version), config(Role::kServer, server, version),
              "vpn.example.com");
    pair.shake_hands();
    ASSERT_TRUE(pair.both_done());
    const std::vector<std::byte> packet(1400, std::byte{7});
    std::vector<std::byte> out(TlsSession::kMaxRecord);
    pair.server.fed.reserve(1 << 17);
    // 40 records are sealed, handed over as a whole, and opened one by one.
    const auto batch = [&] {
      for (int i = 0; i < 40; ++i)
        pair.client.session->write(packet);
      pair.server.take_from(pair.client);
      int opened = 0;
      while (pair.server.session->read(out).io == Io::kOk)
        ++opened;
      return opened;
    };
    ASSERT_EQ(40, batch());
    allocations = 0;
    counting = true;
    const int opened = batch() + batch() + batch();
    counting = false;
    EXPECT_EQ(120, opened);
    EXPECT_EQ(0, allocations.load());
  }
}

TEST(Allocation, NonePerDtlsRecordOnceWarmWhateverBecomesOfIt) {
  for (const bool cids : {false, true}) {
    DtlsPairOptions options;
    if (cids) options.with_cids();
    options.mtu = 1472;
    DtlsPair pair(std::move(options));
    pair.shake_hands();
    ASSERT_TRUE(pair.both_done());
    const Datagram packet(1390, std::byte{7});
    Datagram record(1472);
    Datagram out(2048);
    // Each record is opened, replayed, and followed by a forged one.
    const auto one_way = [&](DtlsSession& from, DtlsSession& to) {
      record.resize(1472);
      record.resize(from.seal(packet, record));
      int opened = to.open(record, out).what == Opened::kOk ? 1 : 0;
      opened += to.open(record, out).what == Opened::kOk ? 1000 : 0;
      record.resize(1472);
      record.resize(from.seal(packet, record));
      record.back() ^= std::byte{1};
      return opened + (to.open(record, out).what == Opened::kOk ? 1000 : 0);
    };
    const auto batch = [&] {
      int opened = 0;
      for (int i = 0; i < 40; ++i)
        opened += one_way(*pair.client, *pair.server) + one_way(*pair.server, *pair.client);
      return opened;
    };
    ASSERT_EQ(80, batch());
    allocations = 0;
    counting = true;
    const int opened = batch();
    counting = false;
    EXPECT_EQ(80, opened);
    EXPECT_EQ(0, allocations.load());
  }
}

TEST(Allocation, NonePerDtlsCookie) {
  const auto responder = std::move(*DtlsCookieResponder::create(DtlsCookieKey::generate()));
  DtlsPair pair;
  pair.client->handshake(pair.now);
  const Datagram hello(pair.client->output().begin(), pair.client->output().end());
  Datagram room(kHelloVerifyRequestSize);
  allocations = 0;
  counting = true;
  for (int i = 0; i < 10; ++i) {
    const auto parsed = parse_client_hello(hello);
    responder->answer(*parsed, pair.address, pair.now, room);
    (void)responder->proves_address(*parsed, pair.address, pair.now);
  }
  counting = false;
  EXPECT_EQ(0, allocations.load());
}

TEST(Allocation, IsCountedAtAll) {
  counting = true;
  allocations = 0;
  ::operator delete(::operator new(100));  // a new-expression could be optimised away
  counting = false;
  EXPECT_EQ(1, allocations.load());
}

}  // namespace
}  // namespace culvert::tls

#endif  // CULVERT_MALLOC_IS_TAKEN
