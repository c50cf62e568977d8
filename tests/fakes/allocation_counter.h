// Counts operator new in the whole executable, for tests that promise "allocates nothing".
// Defines the replacement operators: include it from exactly one file of an executable; any other
// file that wants to read the count defines CULVERT_READS_ALLOCATIONS_ONLY before. Memory
// still comes from malloc, so AddressSanitizer sees everything; ThreadSanitizer insists on its own
// operators, and nothing is counted there.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace culvert::fakes {

inline std::atomic<size_t> g_allocations{0};

// How many allocations happened since construction.
class AllocationCounter {
 public:
  [[nodiscard]] size_t count() const { return g_allocations - start_; }

 private:
  size_t start_ = g_allocations;
};

}  // namespace culvert::fakes

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CULVERT_COUNTS_NOTHING
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CULVERT_COUNTS_NOTHING
#endif

#if !defined(CULVERT_COUNTS_NOTHING) && !defined(CULVERT_READS_ALLOCATIONS_ONLY)
void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept {
  ++culvert::fakes::g_allocations;
  return std::malloc(size != 0 ? size : 1);
}
void* operator new(size_t size) {
  ++culvert::fakes::g_allocations;
  if (void* memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new[](size_t size) {
  return operator new(size);
}
void* operator new[](size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, size_t) noexcept {
  std::free(memory);
}
#endif
