#include "common/tls/dtls_config.h"

#include <mbedtls/ssl_ciphersuites.h>

#include <array>
#include <utility>

#include "common/tls/dtls_config_impl.h"
#include "common/tls/random.h"

namespace culvert::tls {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

// A server's order decides. AES-128-GCM is the fastest; all clients have at least one of the three.
constexpr std::array kSuites = {
    MBEDTLS_TLS_PSK_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_PSK_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_PSK_WITH_CHACHA20_POLY1305_SHA256,
    0,
};
constexpr std::array kSuites256 = {
    MBEDTLS_TLS_PSK_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_PSK_WITH_CHACHA20_POLY1305_SHA256,
    0,
};

Status check(const DtlsOptions& options) {
  const auto is_wrong = [](Duration time) {
    return time < milliseconds(1) || time > hours(1) || time % milliseconds(1) != Duration::zero();
  };
  if (is_wrong(options.first_retransmission) || is_wrong(options.last_retransmission) ||
      options.last_retransmission < options.first_retransmission) {
    return fail(ErrorCode::kUsage, "retransmission times must be whole milliseconds, ascending",
                "DTLS");
  }
  if (options.cid_size.value_or(0) > MBEDTLS_SSL_CID_IN_LEN_MAX) {
    return fail(ErrorCode::kUsage, "connection IDs are at most 32 bytes long", "DTLS");
  }
  return {};
}

// The identity does not matter ("psk" from all clients): the key is the one that belongs to the
// App-ID, which the session was made for.
int give_key(void* /*context*/, mbedtls_ssl_context* ssl, const unsigned char* /*identity*/,
             size_t /*size*/) noexcept {
  const auto* key = static_cast<PskUserData*>(mbedtls_ssl_get_user_data_p(ssl));
  return mbedtls_ssl_set_hs_psk(ssl, raw(key->bytes()), key->bytes().size());
}

// The session has looked at the cookie before mbedTLS gets the ClientHello: it knows the hello that
// the cookie must fit, these callbacks don't. They only say that a cookie belongs there.
int no_cookie(void* /*context*/, unsigned char** /*at*/, unsigned char* /*end*/,
              const unsigned char* /*id*/, size_t /*id_size*/) noexcept {
  return MBEDTLS_ERR_SSL_FEATURE_UNAVAILABLE;
}
int cookie_was_checked(void* /*context*/, const unsigned char* /*cookie*/, size_t size,
                       const unsigned char* /*id*/, size_t /*id_size*/) noexcept {
  return size == kCookieSize ? 0 : -1;
}

void set_up_server(const DtlsOptions& options, mbedtls_ssl_config* ssl) {
  mbedtls_ssl_conf_preference_order(ssl, MBEDTLS_SSL_SRV_CIPHERSUITE_ORDER_SERVER);
  mbedtls_ssl_conf_psk_cb(ssl, give_key, nullptr);
  const bool cookies = options.cookie_key != nullptr;
  mbedtls_ssl_conf_dtls_cookies(ssl, cookies ? no_cookie : nullptr,
                                cookies ? cookie_was_checked : nullptr, nullptr);
}

// 0 if mbedTLS's own 16 KB are to stay.
unsigned char fragment_code(size_t largest_plaintext) {
  if (largest_plaintext == 0 || largest_plaintext > 4096) return MBEDTLS_SSL_MAX_FRAG_LEN_NONE;
  return largest_plaintext > 2048 ? MBEDTLS_SSL_MAX_FRAG_LEN_4096 : MBEDTLS_SSL_MAX_FRAG_LEN_2048;
}

uint32_t to_ms(Duration time) {
  return static_cast<uint32_t>(std::chrono::duration_cast<milliseconds>(time).count());
}

}  // namespace

Status DtlsConfig::Impl::set_up(mbedtls_ssl_config* ssl) const {
  const bool is_server = options.role == Role::kServer;
  int ret =
      mbedtls_ssl_config_defaults(ssl, is_server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                  MBEDTLS_SSL_TRANSPORT_DATAGRAM, MBEDTLS_SSL_PRESET_DEFAULT);
  if (ret == 0) {
    ret = mbedtls_ssl_conf_max_frag_len(ssl, fragment_code(options.largest_plaintext));
  }
  if (ret == 0 && options.cid_size) {
    ret = mbedtls_ssl_conf_cid(ssl, *options.cid_size, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE);
  }
  if (ret != 0) return fail(ErrorCode::kFailure, "DTLS cannot be set up: " + error_text(ret));
  mbedtls_ssl_conf_rng(ssl, random_callback, nullptr);
  mbedtls_ssl_conf_min_tls_version(ssl, MBEDTLS_SSL_VERSION_TLS1_2);
  mbedtls_ssl_conf_max_tls_version(ssl, MBEDTLS_SSL_VERSION_TLS1_2);
  mbedtls_ssl_conf_ciphersuites(ssl, options.strength_256 ? kSuites256.data() : kSuites.data());
  mbedtls_ssl_conf_dtls_anti_replay(ssl, MBEDTLS_SSL_ANTI_REPLAY_ENABLED);
  mbedtls_ssl_conf_handshake_timeout(ssl, to_ms(options.first_retransmission),
                                     to_ms(options.last_retransmission));
  if (is_server) {
    set_up_server(options, ssl);
  } else {
    mbedtls_ssl_conf_session_tickets(ssl, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
  }
  return {};
}

DtlsConfig::DtlsConfig(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DtlsConfig::~DtlsConfig() = default;

Result<std::shared_ptr<const DtlsConfig>> DtlsConfig::build(DtlsOptions options) {
  if (const auto ready = init_crypto(); !ready) return ready.error();
  if (const auto fine = check(options); !fine) return fine.error();
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  if (impl->options.role == Role::kServer) {
    if (const auto done = impl->set_up(impl->server.get()); !done) return done.error();
  }
  return std::shared_ptr<const DtlsConfig>(new DtlsConfig(std::move(impl)));
}

const DtlsOptions& DtlsConfig::options() const {
  return impl_->options;
}

}  // namespace culvert::tls
