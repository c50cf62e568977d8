/* The accelerated back end: AES-GCM of Intel's ipsec-mb (VAES/AVX-512 down to SSE with AES-NI).
 * Uses its direct calls, which only read the manager's function pointers, so that all threads share
 * one manager. Not the job interface: that one is not thread-safe and needs batches. */
#define _POSIX_C_SOURCE 200809L

#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gcm_alt.h"
#include "mbedtls/gcm.h"
#include "mbedtls/platform_util.h"

/* The library's entry points for one key size. */
struct routines {
  aes_gcm_pre_t expand_key;
  aes_gcm_enc_dec_t seal, open;
  aes_gcm_init_var_iv_t start;
  aes_gcm_enc_dec_update_t seal_update, open_update;
  aes_gcm_enc_dec_finalize_t seal_finish, open_finish;
};

/* 2^39 - 256 bits (NIST SP 800-38D section 5.2.1.1). */
#define MAX_MESSAGE 0xFFFFFFFE0ull

struct state {
  struct gcm_key_data key; /* first: the library wants it on a 64-byte boundary */
  struct gcm_context_data stream;
  const struct routines* routines;
  /* Streaming only. The library takes the additional data in one piece, mbedTLS hands it over in
   * several: it is gathered, with the IV, until the first payload arrives. */
  unsigned char* early;
  size_t early_size, early_capacity;
  size_t iv_len;
  uint64_t length;
  int mode;
  int started;
};

static struct routines routines_128, routines_192, routines_256;
static struct culvert_gcm_ops ops;
static char name[32];
static int usable;

/* A pointer that may be passed with length 0 where NULL may not. */
static const unsigned char nothing[1];

static void drop_early(struct state* s) {
  if (s->early != NULL) {
    mbedtls_platform_zeroize(s->early, s->early_capacity);
    free(s->early);
  }
  s->early = NULL;
  s->early_size = s->early_capacity = 0;
}

static int append_early(struct state* s, const unsigned char* bytes, size_t size) {
  if (size > SIZE_MAX / 4 - s->early_size) return MBEDTLS_ERR_GCM_BAD_INPUT;
  if (s->early_size + size > s->early_capacity) {
    const size_t capacity = (s->early_size + size) * 2 + 64;
    unsigned char* larger = malloc(capacity);
    if (larger == NULL) return MBEDTLS_ERR_CIPHER_ALLOC_FAILED;
    if (s->early_size != 0) memcpy(larger, s->early, s->early_size);
    const size_t kept = s->early_size;
    drop_early(s);
    s->early = larger;
    s->early_size = kept;
    s->early_capacity = capacity;
  }
  if (size != 0) memcpy(s->early + s->early_size, bytes, size);
  s->early_size += size;
  return 0;
}

static void imb_destroy(void* state) {
  struct state* s = state;
  if (s == NULL) return;
  drop_early(s);
  mbedtls_platform_zeroize(s, sizeof(*s));
  free(s);
}

static void* imb_create(const unsigned char* key, unsigned int key_bits) {
  void* memory = NULL;
  if (posix_memalign(&memory, 64, sizeof(struct state)) != 0) return NULL;
  struct state* s = memory;
  memset(s, 0, sizeof(*s));
  s->routines = key_bits == 128 ? &routines_128 : key_bits == 192 ? &routines_192 : &routines_256;
  s->routines->expand_key(key, &s->key);
  return s;
}

static int iv_is_bad(size_t iv_len) {
  return iv_len == 0 || (uint64_t)iv_len >> 61 != 0;
}

/* The general form: any IV length, empty additional data, empty message. */
static void crypt_general(struct state* s, struct gcm_context_data* stream, int mode, size_t length,
                          const unsigned char* iv, size_t iv_len, const unsigned char* add,
                          size_t add_len, const unsigned char* input, unsigned char* output,
                          unsigned char tag[16]) {
  const struct routines* r = s->routines;
  r->start(&s->key, stream, iv, iv_len, add_len != 0 ? add : nothing, add_len);
  if (mode == MBEDTLS_GCM_ENCRYPT) {
    if (length != 0) r->seal_update(&s->key, stream, output, input, length);
    r->seal_finish(&s->key, stream, tag, 16);
  } else {
    if (length != 0) r->open_update(&s->key, stream, output, input, length);
    r->open_finish(&s->key, stream, tag, 16);
  }
}

static int imb_crypt(void* state, int mode, size_t length, const unsigned char* iv, size_t iv_len,
                     const unsigned char* add, size_t add_len, const unsigned char* input,
                     unsigned char* output, size_t tag_len, unsigned char* tag) {
  struct state* s = state;
  struct gcm_context_data stream;
  unsigned char full_tag[16];
  unsigned char* const where = tag_len == sizeof(full_tag) ? tag : full_tag;
  if (iv_is_bad(iv_len) || length > MAX_MESSAGE) return MBEDTLS_ERR_GCM_BAD_INPUT;
  if (iv_len == 12 && add_len != 0 && length != 0) { /* every record */
    (mode == MBEDTLS_GCM_ENCRYPT ? s->routines->seal : s->routines->open)(
        &s->key, &stream, output, input, length, iv, add, add_len, where, 16);
  } else {
    crypt_general(s, &stream, mode, length, iv, iv_len, add, add_len, input, output, where);
  }
  if (where != tag) memcpy(tag, full_tag, tag_len);
  return 0;
}

static int imb_starts(void* state, int mode, const unsigned char* iv, size_t iv_len) {
  struct state* s = state;
  if (iv_is_bad(iv_len)) return MBEDTLS_ERR_GCM_BAD_INPUT;
  s->early_size = 0;
  s->mode = mode;
  s->iv_len = iv_len;
  s->length = 0;
  s->started = 0;
  return append_early(s, iv, iv_len);
}

static int imb_update_ad(void* state, const unsigned char* add, size_t add_len) {
  struct state* s = state;
  if (add_len == 0) return 0;
  if (s->started || s->iv_len == 0) return MBEDTLS_ERR_GCM_BAD_INPUT;
  return append_early(s, add, add_len);
}

static int start_stream(struct state* s) {
  if (s->started) return 0;
  if (s->iv_len == 0) return MBEDTLS_ERR_GCM_BAD_INPUT; /* no starts() before */
  const size_t add_len = s->early_size - s->iv_len;
  s->routines->start(&s->key, &s->stream, s->early, s->iv_len,
                     add_len != 0 ? s->early + s->iv_len : nothing, add_len);
  drop_early(s);
  s->started = 1;
  return 0;
}

static int imb_update(void* state, const unsigned char* input, size_t input_length,
                      unsigned char* output, size_t output_size, size_t* output_length) {
  struct state* s = state;
  (void)output_size; /* checked by the caller */
  *output_length = input_length;
  if (input_length == 0) return 0;
  if (output > input && (size_t)(output - input) < input_length) return MBEDTLS_ERR_GCM_BAD_INPUT;
  if (input_length > MAX_MESSAGE || s->length + input_length > MAX_MESSAGE) {
    return MBEDTLS_ERR_GCM_BAD_INPUT;
  }
  const int ret = start_stream(s);
  if (ret != 0) return ret;
  s->length += input_length;
  (s->mode == MBEDTLS_GCM_ENCRYPT ? s->routines->seal_update : s->routines->open_update)(
      &s->key, &s->stream, output, input, input_length);
  return 0;
}

static int imb_finish(void* state, unsigned char* output, size_t output_size, size_t* output_length,
                      unsigned char* tag, size_t tag_len) {
  struct state* s = state;
  unsigned char full_tag[16];
  (void)output;
  (void)output_size;
  *output_length = 0;
  const int ret = start_stream(s);
  if (ret != 0) return ret;
  (s->mode == MBEDTLS_GCM_ENCRYPT ? s->routines->seal_finish : s->routines->open_finish)(
      &s->key, &s->stream, full_tag, 16);
  memcpy(tag, full_tag, tag_len);
  s->iv_len = 0;
  s->started = 0;
  return 0;
}

/* One vector of the GCM specification (test case 4, its first 16 bytes of output): a library that
 * computes something else is not used. */
static int known_answer_is_right(void) {
  static const unsigned char key[16] = {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c,
                                        0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
  static const unsigned char iv[12] = {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce,
                                       0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88};
  static const unsigned char plain[16] = {0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5,
                                          0xa5, 0x59, 0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a};
  static const unsigned char expected[16] = {0x42, 0x83, 0x1e, 0xc2, 0x21, 0x77, 0x74, 0x24,
                                             0x4b, 0x72, 0x21, 0xb7, 0x84, 0xd0, 0xd4, 0x9c};
  static const unsigned char add[1] = {0};
  unsigned char output[16], tag[16];
  void* state = imb_create(key, 128);
  if (state == NULL) return 0;
  imb_crypt(state, MBEDTLS_GCM_ENCRYPT, 16, iv, 12, add, 1, plain, output, 16, tag);
  imb_destroy(state);
  return memcmp(output, expected, 16) == 0;
}

static void take_routines(const IMB_MGR* m) {
  const struct routines r128 = {m->gcm128_pre,          m->gcm128_enc,         m->gcm128_dec,
                                m->gcm128_init_var_iv,  m->gcm128_enc_update,  m->gcm128_dec_update,
                                m->gcm128_enc_finalize, m->gcm128_dec_finalize};
  const struct routines r192 = {m->gcm192_pre,          m->gcm192_enc,         m->gcm192_dec,
                                m->gcm192_init_var_iv,  m->gcm192_enc_update,  m->gcm192_dec_update,
                                m->gcm192_enc_finalize, m->gcm192_dec_finalize};
  const struct routines r256 = {m->gcm256_pre,          m->gcm256_enc,         m->gcm256_dec,
                                m->gcm256_init_var_iv,  m->gcm256_enc_update,  m->gcm256_dec_update,
                                m->gcm256_enc_finalize, m->gcm256_dec_finalize};
  routines_128 = r128;
  routines_192 = r192;
  routines_256 = r256;
}

static const char* name_of_arch(uint32_t arch) {
  return arch == IMB_ARCH_AVX512 ? "avx512"
         : arch == IMB_ARCH_AVX2 ? "avx2"
         : arch == IMB_ARCH_AVX  ? "avx"
                                 : "sse";
}

static void probe(void) {
  const struct culvert_gcm_ops filled = {name,       imb_create,    imb_destroy, imb_crypt,
                                         imb_starts, imb_update_ad, imb_update,  imb_finish};
  const uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_SELF_TEST_PASS;
  IMB_MGR* manager = alloc_mb_mgr(0);
  if (manager == NULL) return;
  IMB_ARCH arch = IMB_ARCH_NONE;
  init_mb_mgr_auto(manager, &arch);
  /* Without AES-NI the call above leaves NULL function pointers, and an error number. */
  if (imb_get_errno(manager) == 0 && (manager->features & needed) == needed &&
      manager->gcm128_pre != NULL) {
    take_routines(manager);
    snprintf(name, sizeof(name), "ipsec-mb %s", name_of_arch(arch));
    ops = filled;
    usable = known_answer_is_right();
  }
  free_mb_mgr(manager); /* 200 KB; only its function pointers were wanted */
}

const struct culvert_gcm_ops* culvert_gcm_ipsec_mb(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  if (pthread_once(&once, probe) != 0 || !usable) return NULL;
  return &ops;
}
