#include "common/tls/tls_failure.h"

#include <mbedtls/ssl.h>

#include <string_view>

#include "common/tls/mbedtls_objects.h"

namespace culvert::tls {
namespace {

struct Alert {
  int number;
  bool about_our_certificate;
  std::string_view text;
};
constexpr int kProtocolVersion = 70;

// RFC 8446 section 6.2.
constexpr Alert kAlerts[] = {
    {10, false, "unexpected message"},
    {20, false, "bad record MAC"},
    {21, false, "decryption failed"},
    {22, false, "record overflow"},
    {40, false, "handshake failure: no common version, cipher suite or signature algorithm"},
    {42, true, "bad certificate"},
    {43, true, "unsupported certificate (wrong purpose?)"},
    {44, true, "certificate revoked"},
    {45, true, "certificate expired"},
    {46, true, "certificate not acceptable"},
    {47, false, "illegal parameter"},
    {48, true, "certificate issued by a CA that the peer does not trust"},
    {49, true, "access denied"},
    {50, false, "decode error"},
    {51, false, "decrypt error"},
    {kProtocolVersion, false, "protocol version not supported"},
    {71, false, "insufficient security"},
    {80, false, "internal error"},
    {86, false, "inappropriate fallback"},
    {90, false, "cancelled"},
    {109, false, "missing extension"},
    {110, false, "unsupported extension"},
    {112, false, "unrecognized name"},
    {116, true, "certificate required"},
};

const Alert* find_alert(int number) {
  for (const Alert& alert : kAlerts) {
    if (alert.number == number) return &alert;
  }
  return nullptr;
}

}  // namespace

std::string alert_text(int number) {
  const Alert* alert = find_alert(number);
  return std::string(alert != nullptr ? alert->text : "unknown alert") + " (TLS alert " +
         std::to_string(number) + ")";
}

namespace {

bool is_about_our_certificate(const FailureScene& scene) {
  const Alert* alert = find_alert(*scene.alert);
  if (alert == nullptr) return false;
  // TLS 1.2 servers that want a certificate and get none say "handshake failure".
  const bool none_to_show = scene.certificate_requested && !scene.have_certificate;
  return alert->about_our_certificate || (alert->number == 40 && none_to_show);
}

std::string refusal_hint(const FailureScene& scene) {
  if (!scene.have_certificate)
    return "the server wants a client certificate and none is configured";
  return "the server's log tells why; expired, revoked or unknown certificates are renewed by the "
         "server's administrator";
}

std::string untrusted_hint(Reason reason) {
  switch (reason) {
    case Reason::kWrongName:
      return "connect by a name that the certificate lists, or have the server's certificate "
             "reissued with this one";
    case Reason::kExpired:
    case Reason::kNotYetValid:
      return "check this machine's clock; else the server needs a new certificate";
    case Reason::kUnknownCa:
      return "is this the server that the profile was made for? Somebody may be in between";
    case Reason::kRevoked:
      return "do not connect; ask the server's administrator";
    case Reason::kWrongPurpose:
    case Reason::kWeakKey:
    case Reason::kMalformed:
    case Reason::kNoCertificate:
      return "the server needs another certificate";
    case Reason::kCrlMissing:
    case Reason::kCrlExpired:
      return "a current revocation list is needed";
    case Reason::kAccepted:
      return {};
  }
  return {};
}

Error untrusted_server(const FailureScene& scene) {
  return fail(ErrorCode::kUntrusted, "the server is not trusted: " + scene.verdict->text,
              scene.server_name, untrusted_hint(scene.verdict->reason));
}

Error alert_failure(const FailureScene& scene) {
  const std::string text = alert_text(*scene.alert);
  if (scene.role == Role::kServer) {
    return fail(
        ErrorCode::kFailure, "the client ended the TLS connection: " + text, {},
        find_alert(*scene.alert) != nullptr && find_alert(*scene.alert)->about_our_certificate
            ? "the client does not accept this server's certificate"
            : "");
  }
  if (is_about_our_certificate(scene) && !scene.anything_read) {
    return fail(ErrorCode::kAuthRefused, "the server refused our certificate: " + text,
                scene.server_name, refusal_hint(scene));
  }
  return fail(ErrorCode::kNetwork, "the server ended the TLS connection: " + text,
              scene.server_name,
              scene.alert == kProtocolVersion ? "the server has to speak TLS 1.2 or 1.3" : "");
}

// mbedTLS 3.6 servers protect the alert with which they refuse a client's certificate in TLS 1.3
// with a key that the client no longer uses: all it sees is a record that does not decrypt.
bool is_unreadable_refusal(const FailureScene& scene) {
  return scene.role == Role::kClient && scene.mbedtls_error == MBEDTLS_ERR_SSL_INVALID_MAC &&
         scene.handshake_done && !scene.anything_read && scene.certificate_requested;
}

bool is_no_tls(int mbedtls_error) {
  return mbedtls_error == MBEDTLS_ERR_SSL_INVALID_RECORD ||
         mbedtls_error == MBEDTLS_ERR_SSL_UNEXPECTED_RECORD ||
         mbedtls_error == MBEDTLS_ERR_SSL_BAD_INPUT_DATA;  // longer than any record may be
}

std::string_view plain_text(int mbedtls_error) {
  if (is_no_tls(mbedtls_error)) return "the peer does not speak TLS";
  switch (mbedtls_error) {
    case MBEDTLS_ERR_SSL_CONN_EOF:
      return "the connection was closed by the peer";
    case MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION:
      return "no common TLS version (1.2 or 1.3 is needed)";
    case MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE:
      return "no common cipher suite, group or signature algorithm";
    case MBEDTLS_ERR_SSL_INVALID_MAC:
      return "a record was damaged on its way";
    default:
      return {};
  }
}

}  // namespace

Error explain_failure(const FailureScene& scene) {
  if (scene.alert) return alert_failure(scene);
  if (scene.role == Role::kClient && !scene.handshake_done && scene.verdict != nullptr &&
      scene.verdict->peer && !scene.verdict->accepted()) {
    return untrusted_server(scene);
  }
  if (is_unreadable_refusal(scene)) {
    return fail(ErrorCode::kAuthRefused, "the server seems to have refused our certificate",
                scene.server_name, refusal_hint(scene));
  }
  // mbedTLS 3.6 has no KeyUpdate; GnuTLS sends one after 2^24 records.
  const bool key_update =
      scene.handshake_done && scene.mbedtls_error == MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE;
  const std::string_view known = key_update
                                     ? "the peer wants new keys (KeyUpdate); a new connection helps"
                                     : plain_text(scene.mbedtls_error);
  const std::string text = known.empty()
                               ? error_text(scene.mbedtls_error)
                               : std::string(known) + ": " + error_text(scene.mbedtls_error);
  const std::string stage = scene.handshake_done ? "TLS failed: " : "the TLS handshake failed: ";
  if (scene.role == Role::kServer) return fail(ErrorCode::kFailure, stage + text);
  return fail(
      ErrorCode::kNetwork, stage + text, scene.server_name,
      is_no_tls(scene.mbedtls_error) ? "check address and port: is this a VPN server?" : "");
}

}  // namespace culvert::tls
