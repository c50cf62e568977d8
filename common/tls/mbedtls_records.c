#define MBEDTLS_ALLOW_PRIVATE_ACCESS
#include "common/tls/mbedtls_records.h"

#include <mbedtls/cipher.h>
#include <mbedtls/version.h>
#include <stdint.h>
#include <string.h>

#include "ssl_misc.h" /* of mbedTLS's library folder */

#if MBEDTLS_VERSION_MAJOR != 3 || MBEDTLS_VERSION_MINOR != 6
#error "mbedtls_records.c was written for mbedTLS 3.6: check every field that it uses"
#endif

enum {
  kContentType = 0,
  kVersion = 1,
  kLengthSize = 2,   /* the last field of each header */
  kStreamHeader = 5, /* RFC 5246 section 6.2.1, RFC 8446 section 5.1 */
  /* RFC 6347 section 4.1; with a connection ID, RFC 9146 section 4: the ID lies before the length.
   */
  kNumber = 3,
  kDatagramHeader = 13,
  kCid = 11,
  /* The sequence number, in DTLS with the epoch before it: of a record, or what stands for it. */
  kNumberSize = MBEDTLS_SSL_SEQUENCE_NUMBER_LEN,
  kNonceSize = 12,
  kMaxCid = MBEDTLS_SSL_CID_IN_LEN_MAX > MBEDTLS_SSL_CID_OUT_LEN_MAX ? MBEDTLS_SSL_CID_IN_LEN_MAX
                                                                     : MBEDTLS_SSL_CID_OUT_LEN_MAX
};
static const unsigned char kDtls12[2] = {0xfe, 0xfd};
static const unsigned char kTls12[2] = {0x03, 0x03}; /* RFC 8446 section 5.1 as well */

/* What goes into a record's AEAD beside key and payload. */
struct Aead {
  unsigned char nonce[kNonceSize];
  unsigned char data[2 * kNumberSize + 7 + kMaxCid];
  size_t data_size;
};

static int is_stream(const mbedtls_ssl_context* ssl) {
  return ssl->conf->transport == MBEDTLS_SSL_TRANSPORT_STREAM;
}

static int is_tls13(const mbedtls_ssl_transform* keys) {
  return keys->tls_version == MBEDTLS_SSL_VERSION_TLS1_3;
}

static int is_known(const mbedtls_ssl_transform* keys) {
  return mbedtls_ssl_get_mode_from_transform(keys) == MBEDTLS_SSL_MODE_AEAD &&
         keys->ivlen == kNonceSize;
}

/* AES-GCM before TLS 1.3: a part of the nonce stands before the payload (RFC 5288 section 3). */
static size_t explicit_nonce_size(const mbedtls_ssl_transform* keys) {
  return keys->ivlen - keys->fixed_ivlen;
}

/* `number`: what stands before the payload, if something does; the record's number otherwise, which
 * is laid over the end of the static part (RFC 7905 section 2, RFC 8446 section 5.3). In whole
 * words: what is written in parts and read whole at once makes the processor wait. */
static void set_nonce(struct Aead* aead, const mbedtls_ssl_transform* keys, const unsigned char* iv,
                      const unsigned char* number) {
  enum { kFront = kNonceSize - kNumberSize };
  uint64_t end = mbedtls_get_unaligned_uint64(number);
  if (explicit_nonce_size(keys) == 0) end ^= mbedtls_get_unaligned_uint64(iv + kFront);
  memcpy(aead->nonce, iv, kFront);
  mbedtls_put_unaligned_uint64(aead->nonce + kFront, end);
}

/* Ours have 8 bytes. For a size that it does not know, gcc 12 takes "rep movs", which costs more
 * than a small record's encryption. */
static void copy_cid(unsigned char* to, const unsigned char* from, size_t size) {
  if (size == sizeof(uint64_t)) {
    mbedtls_put_unaligned_uint64(to, mbedtls_get_unaligned_uint64(from));
  } else {
    memcpy(to, from, size);
  }
}

/* RFC 8446 section 5.2: the header. */
static void authenticate_tls13(struct Aead* aead, const unsigned char* header) {
  memcpy(aead->data, header, kStreamHeader);
  aead->data_size = kStreamHeader;
}

/* RFC 5246 section 6.2.3.3; with a connection ID, RFC 9146 section 5.3. `inner`: bytes of
 * plaintext, its hidden type included. */
static void authenticate_tls12(struct Aead* aead, const unsigned char* header,
                               const unsigned char* number, const unsigned char* cid,
                               size_t cid_size, size_t inner) {
  enum { kTypeAndVersion = 3 };
  unsigned char* at = aead->data;
  if (cid_size != 0) {
    memset(at, 0xff, kNumberSize);
    at += kNumberSize;
    *at++ = header[kContentType];
    *at++ = (unsigned char)cid_size;
    memcpy(at, header, kTypeAndVersion);
    at += kTypeAndVersion;
    memcpy(at, number, kNumberSize);
    at += kNumberSize;
    copy_cid(at, cid, cid_size);
    at += cid_size;
  } else {
    memcpy(at, number, kNumberSize);
    at += kNumberSize;
    memcpy(at, header, kTypeAndVersion);
    at += kTypeAndVersion;
  }
  MBEDTLS_PUT_UINT16_BE(inner, at, 0);
  aead->data_size = (size_t)(at + kLengthSize - aead->data);
}

/* The type and any number of zeros stand behind the content in TLS 1.3 (RFC 8446 section 5.4), and
 * with a connection ID (RFC 9146 section 4). Gives the size of the content, 0 if it is no
 * application data. */
static size_t content_of(const unsigned char* inner, size_t size) {
  while (size != 0 && inner[size - 1] == 0)
    --size;
  return size != 0 && inner[size - 1] == MBEDTLS_SSL_MSG_APPLICATION_DATA ? size - 1 : 0;
}

int culvert_seal_record(mbedtls_ssl_context* ssl, const unsigned char* plaintext, size_t size,
                        unsigned char* out, size_t capacity, size_t* record_size) {
  mbedtls_ssl_transform* const keys = ssl->transform_out;
  if (keys == NULL || ssl->out_left != 0 || !is_known(keys)) return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
  const int stream = is_stream(ssl);
  const size_t cid_size = keys->out_cid_len;
  const int hides_type = is_tls13(keys) || cid_size != 0;
  const size_t nonce_size = explicit_nonce_size(keys);
  const size_t header = stream ? kStreamHeader : kDatagramHeader + cid_size;
  const size_t inner = size + (hides_type ? 1 : 0);
  const size_t length = nonce_size + inner + keys->taglen;
  if (size > MBEDTLS_SSL_OUT_CONTENT_LEN) return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
  if (capacity < header + length) return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;

  unsigned char* const number = ssl->cur_out_ctr;
  out[kContentType] = cid_size != 0 ? MBEDTLS_SSL_MSG_CID : MBEDTLS_SSL_MSG_APPLICATION_DATA;
  memcpy(out + kVersion, stream ? kTls12 : kDtls12, sizeof(kTls12));
  if (!stream) {
    memcpy(out + kNumber, number, kNumberSize);
    copy_cid(out + kCid, keys->out_cid, cid_size);
  }
  MBEDTLS_PUT_UINT16_BE(length, out, header - kLengthSize);
  if (nonce_size != 0) memcpy(out + header, number, kNumberSize);

  struct Aead aead;
  set_nonce(&aead, keys, keys->iv_enc, number);
  if (is_tls13(keys)) {
    authenticate_tls13(&aead, out);
  } else {
    authenticate_tls12(&aead, out, number, keys->out_cid, cid_size, inner);
  }
  unsigned char* const payload = out + header + nonce_size;
  if (hides_type) {
    memcpy(payload, plaintext, size);
    payload[size] = MBEDTLS_SSL_MSG_APPLICATION_DATA;
    plaintext = payload;
  }
  size_t sealed = 0;
  const int ret = mbedtls_cipher_auth_encrypt_ext(
      &keys->cipher_ctx_enc, aead.nonce, sizeof(aead.nonce), aead.data, aead.data_size, plaintext,
      inner, payload, capacity - header - nonce_size, &sealed, keys->taglen);
  if (ret != 0) return ret;
  *record_size = header + length;

  const uint64_t next = MBEDTLS_GET_UINT64_BE(number, 0) + 1;
  MBEDTLS_PUT_UINT64_BE(next, number, 0);
  const uint64_t without_epoch = stream ? next : next & 0xffffffffffff;
  return without_epoch != 0 ? 0 : MBEDTLS_ERR_SSL_COUNTER_WRAPPING;
}

/* As mbedtls_ssl_check_pending() has it, which is no function to be called for each record. */
static int nothing_pending(const mbedtls_ssl_context* ssl) {
  const int more_in_datagram = !is_stream(ssl) && ssl->in_left > ssl->next_record_offset;
  const int more_in_record = ssl->in_hslen > 0 && ssl->in_hslen < ssl->in_msglen;
  return ssl->in_offt == NULL && !ssl->keep_current_message && !more_in_datagram && !more_in_record;
}

int culvert_can_open_in_place(const mbedtls_ssl_context* ssl) {
  const mbedtls_ssl_transform* const keys = ssl->transform_in;
  /* DTLS may have to repeat its last flight until there is data. TLS 1.3 keeps the handshake's
   * memory for ever, and leaves the state to read a ticket. */
  const int over =
      ssl->state == MBEDTLS_SSL_HANDSHAKE_OVER && (is_stream(ssl) || ssl->handshake == NULL);
  return over && keys != NULL && is_known(keys) && nothing_pending(ssl);
}

/* As mbedtls_ssl_dtls_replay_update() has it. */
static void remember(mbedtls_ssl_context* ssl, uint64_t number) {
  if (number > ssl->in_window_top) {
    const uint64_t shift = number - ssl->in_window_top;
    ssl->in_window = (shift < 64 ? ssl->in_window << shift : 0) | 1;
    ssl->in_window_top = number;
  } else if (ssl->in_window_top - number < 64) {
    ssl->in_window |= (uint64_t)1 << (ssl->in_window_top - number);
  }
}

int culvert_open_record(mbedtls_ssl_context* ssl, unsigned char* record, size_t size, size_t header,
                        struct CulvertOpenedRecord* opened) {
  mbedtls_ssl_transform* const keys = ssl->transform_in;
  const size_t cid_size = header - kDatagramHeader;
  if (cid_size != keys->in_cid_len || memcmp(record + kCid, keys->in_cid, cid_size) != 0) {
    return MBEDTLS_ERR_SSL_UNEXPECTED_CID;
  }
  const size_t nonce_size = explicit_nonce_size(keys);
  if (size < header + nonce_size + keys->taglen) return MBEDTLS_ERR_SSL_INVALID_MAC;
  const size_t inner = size - header - nonce_size - keys->taglen;

  const unsigned char* const number = record + kNumber;
  struct Aead aead;
  set_nonce(&aead, keys, keys->iv_dec, nonce_size != 0 ? record + header : number);
  authenticate_tls12(&aead, record, number, record + kCid, cid_size, inner);
  unsigned char* const payload = record + header + nonce_size;
  size_t found = 0;
  const int ret = mbedtls_cipher_auth_decrypt_ext(
      &keys->cipher_ctx_dec, aead.nonce, sizeof(aead.nonce), aead.data, aead.data_size, payload,
      inner + keys->taglen, payload, inner, &found, keys->taglen);
  if (ret != 0) return ret;
  remember(ssl, MBEDTLS_GET_UINT64_BE(number, 0) & 0xffffffffffff);
  opened->plaintext = payload;
  opened->size = cid_size != 0 ? content_of(payload, inner) : inner;
  return 0;
}

struct CulvertStreamRecord culvert_open_stream_record(mbedtls_ssl_context* ssl,
                                                      const unsigned char* input, size_t size,
                                                      unsigned char* out, size_t capacity) {
  const struct CulvertStreamRecord not_ours = {0, 0};
  if (size < kStreamHeader || !culvert_can_open_in_place(ssl) || ssl->in_left != 0) return not_ours;
  mbedtls_ssl_transform* const keys = ssl->transform_in;
  const size_t length = MBEDTLS_GET_UINT16_BE(input, kStreamHeader - kLengthSize);
  if (input[kContentType] != MBEDTLS_SSL_MSG_APPLICATION_DATA ||
      memcmp(input + kVersion, kTls12, sizeof(kTls12)) != 0 || size - kStreamHeader < length) {
    return not_ours;
  }
  const int hides_type = is_tls13(keys);
  const size_t nonce_size = explicit_nonce_size(keys);
  if (length <= nonce_size + keys->taglen) return not_ours;
  const size_t inner = length - nonce_size - keys->taglen;
  if (inner > capacity || inner > (size_t)MBEDTLS_SSL_IN_CONTENT_LEN + (hides_type ? 1 : 0)) {
    return not_ours;
  }

  unsigned char* const number = ssl->in_ctr;
  struct Aead aead;
  set_nonce(&aead, keys, keys->iv_dec, nonce_size != 0 ? input + kStreamHeader : number);
  if (hides_type) {
    authenticate_tls13(&aead, input);
  } else {
    authenticate_tls12(&aead, input, number, NULL, 0, inner);
  }
  size_t found = 0;
  if (mbedtls_cipher_auth_decrypt_ext(&keys->cipher_ctx_dec, aead.nonce, sizeof(aead.nonce),
                                      aead.data, aead.data_size, input + kStreamHeader + nonce_size,
                                      inner + keys->taglen, out, capacity, &found,
                                      keys->taglen) != 0) {
    return not_ours;
  }
  const size_t content = hides_type ? content_of(out, inner) : inner;
  const uint64_t next = MBEDTLS_GET_UINT64_BE(number, 0) + 1;
  if (content == 0 || next == 0) return not_ours;
  MBEDTLS_PUT_UINT64_BE(next, number, 0);
  ssl->nb_zero = 0; /* of empty records in a row */
  const struct CulvertStreamRecord opened = {kStreamHeader + length, content};
  return opened;
}
