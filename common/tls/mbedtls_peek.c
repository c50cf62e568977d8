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

void culvert_forget_estimated_mtu(mbedtls_ssl_context* ssl) {
  if (ssl->handshake != NULL) ssl->handshake->mtu = 0;
}
