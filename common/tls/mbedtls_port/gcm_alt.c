/* The nine mbedtls_gcm_* functions that TLS, PSA and the cipher layer call, passed on to the back
 * end that was chosen by CPU. What is common to the back ends (tag comparison, wiping) is here. */
#define _POSIX_C_SOURCE 200809L

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "mbedtls/constant_time.h"
#include "mbedtls/gcm.h"
#include "mbedtls/platform_util.h"

static const struct culvert_gcm_ops* by_cpu;
static const struct culvert_gcm_ops* forced; /* by a test */

static void choose(void) {
  by_cpu = culvert_gcm_ipsec_mb();
  if (by_cpu == NULL) by_cpu = culvert_gcm_portable();
}

const struct culvert_gcm_ops* culvert_gcm_current(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  const struct culvert_gcm_ops* ops = __atomic_load_n(&forced, __ATOMIC_ACQUIRE);
  if (ops != NULL) return ops;
  if (pthread_once(&once, choose) != 0) return culvert_gcm_portable();
  return by_cpu;
}

void culvert_gcm_use(const struct culvert_gcm_ops* ops) {
  __atomic_store_n(&forced, ops, __ATOMIC_RELEASE);
}

void mbedtls_gcm_init(mbedtls_gcm_context* ctx) {
  memset(ctx, 0, sizeof(*ctx));
}

int mbedtls_gcm_setkey(mbedtls_gcm_context* ctx, mbedtls_cipher_id_t cipher,
                       const unsigned char* key, unsigned int keybits) {
  if (cipher != MBEDTLS_CIPHER_ID_AES) return MBEDTLS_ERR_GCM_BAD_INPUT;
  if (keybits != 128 && keybits != 192 && keybits != 256) return MBEDTLS_ERR_GCM_BAD_INPUT;
  mbedtls_gcm_free(ctx); /* a second key replaces the first */
  const struct culvert_gcm_ops* ops = culvert_gcm_current();
  ctx->state = ops->create(key, keybits);
  if (ctx->state == NULL) return MBEDTLS_ERR_CIPHER_ALLOC_FAILED;
  ctx->ops = ops;
  return 0;
}

void mbedtls_gcm_free(mbedtls_gcm_context* ctx) {
  if (ctx == NULL) return;
  if (ctx->ops != NULL) ctx->ops->destroy(ctx->state);
  memset(ctx, 0, sizeof(*ctx));
}

int mbedtls_gcm_crypt_and_tag(mbedtls_gcm_context* ctx, int mode, size_t length,
                              const unsigned char* iv, size_t iv_len, const unsigned char* add,
                              size_t add_len, const unsigned char* input, unsigned char* output,
                              size_t tag_len, unsigned char* tag) {
  if (ctx->ops == NULL || tag_len < 4 || tag_len > 16) return MBEDTLS_ERR_GCM_BAD_INPUT;
  return ctx->ops->crypt_and_tag(ctx->state, mode, length, iv, iv_len, add, add_len, input, output,
                                 tag_len, tag);
}

/* In a time that says nothing about where they differ. mbedTLS's own comparison takes the bytes one
 * by one, which is as long as it takes to decrypt 100 of them. */
static int tags_match(const unsigned char* one, const unsigned char* other, size_t size) {
  if (size != 16) return mbedtls_ct_memcmp(one, other, size) == 0;
  uint64_t a[2];
  uint64_t b[2];
  memcpy(a, one, sizeof(a));
  memcpy(b, other, sizeof(b));
  volatile const uint64_t differ = (a[0] ^ b[0]) | (a[1] ^ b[1]);
  return differ == 0;
}

int mbedtls_gcm_auth_decrypt(mbedtls_gcm_context* ctx, size_t length, const unsigned char* iv,
                             size_t iv_len, const unsigned char* add, size_t add_len,
                             const unsigned char* tag, size_t tag_len, const unsigned char* input,
                             unsigned char* output) {
  unsigned char expected[16];
  const int ret = mbedtls_gcm_crypt_and_tag(ctx, MBEDTLS_GCM_DECRYPT, length, iv, iv_len, add,
                                            add_len, input, output, tag_len, expected);
  if (ret != 0) return ret;
  if (!tags_match(tag, expected, tag_len)) {
    if (length != 0) mbedtls_platform_zeroize(output, length);
    return MBEDTLS_ERR_GCM_AUTH_FAILED;
  }
  return 0;
}

int mbedtls_gcm_starts(mbedtls_gcm_context* ctx, int mode, const unsigned char* iv, size_t iv_len) {
  if (ctx->ops == NULL) return MBEDTLS_ERR_GCM_BAD_INPUT;
  return ctx->ops->starts(ctx->state, mode, iv, iv_len);
}

int mbedtls_gcm_update_ad(mbedtls_gcm_context* ctx, const unsigned char* add, size_t add_len) {
  if (ctx->ops == NULL) return MBEDTLS_ERR_GCM_BAD_INPUT;
  return ctx->ops->update_ad(ctx->state, add, add_len);
}

int mbedtls_gcm_update(mbedtls_gcm_context* ctx, const unsigned char* input, size_t input_length,
                       unsigned char* output, size_t output_size, size_t* output_length) {
  if (ctx->ops == NULL) return MBEDTLS_ERR_GCM_BAD_INPUT;
  if (output_size < input_length) return MBEDTLS_ERR_GCM_BUFFER_TOO_SMALL;
  return ctx->ops->update(ctx->state, input, input_length, output, output_size, output_length);
}

int mbedtls_gcm_finish(mbedtls_gcm_context* ctx, unsigned char* output, size_t output_size,
                       size_t* output_length, unsigned char* tag, size_t tag_len) {
  if (ctx->ops == NULL || tag_len < 4 || tag_len > 16) return MBEDTLS_ERR_GCM_BAD_INPUT;
  return ctx->ops->finish(ctx->state, output, output_size, output_length, tag, tag_len);
}
