/* The portable back end: mbedTLS's own gcm.c, compiled a second time under other names. It serves
 * CPUs without AES-NI and is the yardstick that the accelerated one is tested against. */
#include "common.h"
#include "gcm_alt.h"

/* From here on gcm.h and gcm.c define their own context and functions, under these names. */
#undef MBEDTLS_GCM_ALT
#define mbedtls_gcm_context portable_gcm_context
#define mbedtls_gcm_init portable_gcm_init
#define mbedtls_gcm_setkey portable_gcm_setkey
#define mbedtls_gcm_free portable_gcm_free
#define mbedtls_gcm_crypt_and_tag portable_gcm_crypt_and_tag
#define mbedtls_gcm_auth_decrypt portable_gcm_auth_decrypt
#define mbedtls_gcm_starts portable_gcm_starts
#define mbedtls_gcm_update_ad portable_gcm_update_ad
#define mbedtls_gcm_update portable_gcm_update
#define mbedtls_gcm_finish portable_gcm_finish
#include "gcm.c"

static void portable_destroy(void* state) {
  if (state == NULL) return;
  portable_gcm_free(state);
  mbedtls_free(state);
}

static void* portable_create(const unsigned char* key, unsigned int key_bits) {
  portable_gcm_context* state = mbedtls_calloc(1, sizeof(*state));
  if (state == NULL) return NULL;
  portable_gcm_init(state);
  if (portable_gcm_setkey(state, MBEDTLS_CIPHER_ID_AES, key, key_bits) != 0) {
    portable_destroy(state);
    return NULL;
  }
  return state;
}

static int portable_crypt(void* state, int mode, size_t length, const unsigned char* iv,
                          size_t iv_len, const unsigned char* add, size_t add_len,
                          const unsigned char* input, unsigned char* output, size_t tag_len,
                          unsigned char* tag) {
  return portable_gcm_crypt_and_tag(state, mode, length, iv, iv_len, add, add_len, input, output,
                                    tag_len, tag);
}

static int portable_starts(void* state, int mode, const unsigned char* iv, size_t iv_len) {
  return portable_gcm_starts(state, mode, iv, iv_len);
}

static int portable_update_ad(void* state, const unsigned char* add, size_t add_len) {
  return portable_gcm_update_ad(state, add, add_len);
}

static int portable_update(void* state, const unsigned char* input, size_t input_length,
                           unsigned char* output, size_t output_size, size_t* output_length) {
  return portable_gcm_update(state, input, input_length, output, output_size, output_length);
}

static int portable_finish(void* state, unsigned char* output, size_t output_size,
                           size_t* output_length, unsigned char* tag, size_t tag_len) {
  return portable_gcm_finish(state, output, output_size, output_length, tag, tag_len);
}

const struct culvert_gcm_ops* culvert_gcm_portable(void) {
  static const struct culvert_gcm_ops ops = {
      "portable",      portable_create,    portable_destroy, portable_crypt,
      portable_starts, portable_update_ad, portable_update,  portable_finish,
  };
  return &ops;
}
