// The three things that we need to know from mbedTLS and that its public interface does not tell.
// All access to its private fields is in mbedtls_peek.c, which is tied to 3.6.
#pragma once

#include <mbedtls/ssl.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>

#ifdef __cplusplus
extern "C" {
#endif

// Client, during the handshake: has the server asked for our certificate by now? Later the answer
// may be gone, so ask after every handshake step.
int culvert_certificate_requested(const mbedtls_ssl_context* ssl);

// The number of the alert in the message that was read last (RFC 8446 section 6). REQUIRES: the
// last call returned MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE.
int culvert_alert_number(const mbedtls_ssl_context* ssl);

// 0 if the list is signed by this CA with an algorithm that the profile allows.
int culvert_verify_crl_signature(const mbedtls_x509_crl* crl, const mbedtls_x509_crt* ca,
                                 const mbedtls_x509_crt_profile* profile);

#ifdef __cplusplus
}
#endif
