// Random bytes for keys, cookies and serial numbers.
#pragma once

#include "common/base/bytes.h"

namespace culvert::tls {

// Fills `out` from a generator of the calling thread (AES-256 CTR_DRBG seeded by getrandom(2)).
// Thread-safe; never fails: a kernel without randomness ends the program.
void random_bytes(MutableBytes out) noexcept;

// The same in the form mbedTLS asks for; the context is not used.
int random_callback(void* context, unsigned char* out, size_t size) noexcept;

}  // namespace culvert::tls
