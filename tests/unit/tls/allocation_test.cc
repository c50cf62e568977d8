// The packet path of a TLS session allocates nothing, counted under C++ and mbedTLS alike: both end
// in malloc, which this program replaces by a counting one.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

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

TEST(Allocation, IsCountedAtAll) {
  counting = true;
  allocations = 0;
  delete new std::vector<int>(100);
  counting = false;
  EXPECT_EQ(2, allocations.load());
}

}  // namespace
}  // namespace culvert::tls

#endif  // CULVERT_MALLOC_IS_TAKEN
