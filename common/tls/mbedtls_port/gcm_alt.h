/* AES-GCM under mbedTLS's names (MBEDTLS_GCM_ALT): a context that points to one of two back ends,
 * chosen once by CPU. Included by mbedtls/gcm.h; C, because mbedTLS is. */
#ifndef CULVERT_GCM_ALT_H
#define CULVERT_GCM_ALT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A back end. `state` is its key schedule and stream position. The functions keep the contracts of
 * their namesakes in mbedtls/gcm.h and return its error codes. */
struct culvert_gcm_ops {
  const char* name;
  /* NULL if memory is short or the key size (bits) is none of 128, 192, 256. */
  void* (*create)(const unsigned char* key, unsigned int key_bits);
  void (*destroy)(void* state); /* wipes; NULL is fine */
  int (*crypt_and_tag)(void* state, int mode, size_t length, const unsigned char* iv, size_t iv_len,
                       const unsigned char* add, size_t add_len, const unsigned char* input,
                       unsigned char* output, size_t tag_len, unsigned char* tag);
  int (*starts)(void* state, int mode, const unsigned char* iv, size_t iv_len);
  int (*update_ad)(void* state, const unsigned char* add, size_t add_len);
  int (*update)(void* state, const unsigned char* input, size_t input_length, unsigned char* output,
                size_t output_size, size_t* output_length);
  int (*finish)(void* state, unsigned char* output, size_t output_size, size_t* output_length,
                unsigned char* tag, size_t tag_len);
};

typedef struct mbedtls_gcm_context {
  const struct culvert_gcm_ops* ops; /* NULL until a key is set */
  void* state;
} mbedtls_gcm_context;

/* mbedTLS's own code; always there. */
const struct culvert_gcm_ops* culvert_gcm_portable(void);
/* Intel's ipsec-mb; NULL on a CPU without AES-NI. */
const struct culvert_gcm_ops* culvert_gcm_ipsec_mb(void);
/* The one that contexts keyed from now on get. */
const struct culvert_gcm_ops* culvert_gcm_current(void);
/* For tests and benchmarks: replaces it; NULL goes back to the choice by CPU. */
void culvert_gcm_use(const struct culvert_gcm_ops* ops);

#ifdef __cplusplus
}
#endif

#endif
