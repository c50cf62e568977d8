// The few things that we need to know from mbedTLS or tell it, and that have no public interface.
// All access to its private fields is here and in mbedtls_records.c, which are tied to 3.6.
#pragma once

#include <mbedtls/ssl.h>
#include <mbedtls/x509_crl.h>
#include <mbedtls/x509_crt.h>
#include <stdint.h>

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

// DTLS client, before the handshake: sends these 16 to 32 bytes as the ClientHello's session ID.
// No session is resumed by it, even if the server shows the same ID. 0 or an mbedTLS error.
int culvert_offer_session_id(mbedtls_ssl_context* ssl, const unsigned char* id, size_t size);

// DTLS: which of the epoch's records were authentic, as far as mbedTLS remembers. REQUIRES: replay
// protection is on.
struct CulvertReplayWindow {
  uint64_t newest;  // sequence number
  uint64_t seen;    // bit n: newest - n
};
struct CulvertReplayWindow culvert_replay_window_of(const mbedtls_ssl_context* ssl);
void culvert_set_replay_window(mbedtls_ssl_context* ssl, struct CulvertReplayWindow window);

// DTLS, once the handshake is over: after losses in it, mbedTLS keeps to an estimated path MTU of
// 508 bytes until application data arrives. Forgets that estimate.
void culvert_forget_estimated_mtu(mbedtls_ssl_context* ssl);

#ifdef __cplusplus
}
#endif
