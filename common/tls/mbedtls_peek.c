#define MBEDTLS_ALLOW_PRIVATE_ACCESS
#include "common/tls/mbedtls_peek.h"

#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <string.h>

#include "ssl_misc.h" /* of mbedTLS's library folder */

#if MBEDTLS_VERSION_MAJOR != 3 || MBEDTLS_VERSION_MINOR != 6
#error "mbedtls_peek.c was written for mbedTLS 3.6: check every field that it reads"
#endif

int culvert_certificate_requested(const mbedtls_ssl_context* ssl) {
  return ssl->handshake != NULL && ssl->handshake->client_auth != 0;
}

int culvert_alert_number(const mbedtls_ssl_context* ssl) {
  return ssl->in_msg[1];
}

int culvert_verify_crl_signature(const mbedtls_x509_crl* crl, const mbedtls_x509_crt* ca,
                                 const mbedtls_x509_crt_profile* profile) {
  unsigned char hash[MBEDTLS_MD_MAX_SIZE];
  const mbedtls_md_info_t* md = mbedtls_md_info_from_type(crl->sig_md);
  if (md == NULL || crl->sig_md == MBEDTLS_MD_NONE) return -1;
  if ((profile->allowed_mds & MBEDTLS_X509_ID_FLAG(crl->sig_md)) == 0) return -1;
  if ((profile->allowed_pks & MBEDTLS_X509_ID_FLAG(crl->sig_pk)) == 0) return -1;
  const int ret = mbedtls_md(md, crl->tbs.p, crl->tbs.len, hash);
  if (ret != 0) return ret;
  /* The library's own code passes the public key of a const certificate in the same way. */
  mbedtls_pk_context* key = (mbedtls_pk_context*)&ca->pk;
  return mbedtls_pk_verify_ext(crl->sig_pk, crl->sig_opts, key, crl->sig_md, hash,
                               mbedtls_md_get_size(md), crl->sig.p, crl->sig.len);
}

int culvert_offer_session_id(mbedtls_ssl_context* ssl, const unsigned char* id, size_t size) {
  mbedtls_ssl_session session;
  mbedtls_ssl_session_init(&session);
  if (size > sizeof(session.id)) return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
  session.tls_version = MBEDTLS_SSL_VERSION_TLS1_2;
  session.endpoint = MBEDTLS_SSL_IS_CLIENT;
  session.ciphersuite = 0; /* no server can pick it, so that it is never taken for a resumption */
  session.id_len = size;
  memcpy(session.id, id, size);
  const int ret = mbedtls_ssl_set_session(ssl, &session);
  mbedtls_ssl_session_free(&session);
  return ret;
}

struct CulvertReplayWindow culvert_replay_window_of(const mbedtls_ssl_context* ssl) {
  const struct CulvertReplayWindow window = {ssl->in_window_top, ssl->in_window};
  return window;
}

void culvert_set_replay_window(mbedtls_ssl_context* ssl, struct CulvertReplayWindow window) {
  ssl->in_window_top = window.newest;
  ssl->in_window = window.seen;
}

/* RFC 6347 section 4.1; with a connection ID, RFC 9146 section 4: the ID lies before the length. */
enum { kHeader = 13, kContentType = 0, kVersion = 1, kCounter = 3, kCid = 11, kLengthSize = 2 };
static const unsigned char kDtls12[2] = {0xfe, 0xfd};

int culvert_seal_record(mbedtls_ssl_context* ssl, const unsigned char* plaintext, size_t size,
                        unsigned char* out, size_t capacity, size_t* record_size) {
  mbedtls_ssl_transform* const keys = ssl->transform_out;
  if (keys == NULL || ssl->out_left != 0) return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
  const size_t header = kHeader + (size_t)keys->out_cid_len;
  const size_t explicit_nonce = keys->ivlen - keys->fixed_ivlen;
  if (capacity < header + explicit_nonce || capacity - header - explicit_nonce < size) {
    return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
  }
  mbedtls_record record;
  record.buf = out + header;
  record.buf_len = capacity - header;
  record.data_offset = explicit_nonce;
  record.data_len = size;
  memcpy(record.ctr, ssl->cur_out_ctr, sizeof(record.ctr));
  memcpy(record.ver, kDtls12, sizeof(record.ver));
  record.type = MBEDTLS_SSL_MSG_APPLICATION_DATA;
  record.cid_len = 0; /* filled in with the ID, as the type is */
  memcpy(record.buf + record.data_offset, plaintext, size);
  const int ret = mbedtls_ssl_encrypt_buf(ssl, keys, &record, ssl->conf->f_rng, ssl->conf->p_rng);
  if (ret != 0) return ret;
  if (record.data_offset != 0 || record.cid_len != keys->out_cid_len) {
    return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
  }
  out[kContentType] = record.type;
  memcpy(out + kVersion, kDtls12, sizeof(kDtls12));
  memcpy(out + kCounter, record.ctr, sizeof(record.ctr));
  memcpy(out + kCid, record.cid, record.cid_len);
  MBEDTLS_PUT_UINT16_BE(record.data_len, out, header - kLengthSize);
  *record_size = header + record.data_len;
  for (size_t i = sizeof(ssl->cur_out_ctr); i > 2; --i) { /* before them is the epoch */
    if (++ssl->cur_out_ctr[i - 1] != 0) return 0;
  }
  return MBEDTLS_ERR_SSL_COUNTER_WRAPPING;
}

int culvert_can_open_in_place(const mbedtls_ssl_context* ssl) {
  const mbedtls_ssl_transform* const keys = ssl->transform_in;
  return ssl->handshake == NULL && keys != NULL && ssl->in_offt == NULL &&
         mbedtls_ssl_check_pending(ssl) == 0;
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
  const size_t cid_size = header - kHeader;
  if (cid_size > MBEDTLS_SSL_CID_IN_LEN_MAX) return MBEDTLS_ERR_SSL_UNEXPECTED_CID;
  mbedtls_record inner;
  inner.buf = record;
  inner.buf_len = size;
  inner.data_offset = header;
  inner.data_len = size - header;
  inner.type = record[kContentType];
  memcpy(inner.ver, record + kVersion, sizeof(inner.ver));
  memcpy(inner.ctr, record + kCounter, sizeof(inner.ctr));
  inner.cid_len = (uint8_t)cid_size;
  memcpy(inner.cid, record + kCid, cid_size);
  const uint64_t number = MBEDTLS_GET_UINT64_BE(inner.ctr, 0) & 0xffffffffffff;
  const int ret = mbedtls_ssl_decrypt_buf(ssl, ssl->transform_in, &inner);
  if (ret != 0) return ret;
  remember(ssl, number);
  opened->plaintext = inner.buf + inner.data_offset;
  opened->size = inner.type == MBEDTLS_SSL_MSG_APPLICATION_DATA ? inner.data_len : 0;
  return 0;
}

void culvert_forget_estimated_mtu(mbedtls_ssl_context* ssl) {
  if (ssl->handshake != NULL) ssl->handshake->mtu = 0;
}
