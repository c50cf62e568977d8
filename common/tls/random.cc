#include "common/tls/random.h"

#include <mbedtls/ctr_drbg.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace culvert::tls {
namespace {

[[noreturn]] void die() {
  std::fputs("culvert: no random numbers from the kernel\n", stderr);
  std::abort();
}

int kernel_entropy(void* /*context*/, unsigned char* out, size_t size) noexcept {
  while (size > 0) {
    const ssize_t got = ::getrandom(out, size, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    out += got;
    size -= static_cast<size_t>(got);
  }
  return 0;
}

// One generator a thread: nothing to lock, and a session may be handed to another thread, since
// mbedTLS is told a function and not a generator.
class ThreadGenerator {
 public:
  ThreadGenerator() {
    mbedtls_ctr_drbg_init(&drbg_);
    if (mbedtls_ctr_drbg_seed(&drbg_, kernel_entropy, nullptr, nullptr, 0) != 0) die();
  }
  ThreadGenerator(const ThreadGenerator&) = delete;
  ThreadGenerator& operator=(const ThreadGenerator&) = delete;
  ~ThreadGenerator() { mbedtls_ctr_drbg_free(&drbg_); }
  mbedtls_ctr_drbg_context* get() { return &drbg_; }

 private:
  mbedtls_ctr_drbg_context drbg_;
};

}  // namespace

int random_callback(void* /*context*/, unsigned char* out, size_t size) noexcept {
  thread_local ThreadGenerator generator;
  while (size > 0) {
    const size_t part = std::min<size_t>(size, MBEDTLS_CTR_DRBG_MAX_REQUEST);
    const int ret = mbedtls_ctr_drbg_random(generator.get(), out, part);
    if (ret != 0) return ret;
    out += part;
    size -= part;
  }
  return 0;
}

void random_bytes(MutableBytes out) noexcept {
  if (random_callback(nullptr, reinterpret_cast<unsigned char*>(out.data()), out.size()) != 0) {
    die();
  }
}

}  // namespace culvert::tls
