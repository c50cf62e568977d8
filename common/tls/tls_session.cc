#include "common/tls/tls_session.h"

#include <mbedtls/ssl.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <optional>
#include <utility>

#include "common/base/text.h"
#include "common/tls/block_count.h"
#include "common/tls/byte_queue.h"
#include "common/tls/judge.h"
#include "common/tls/mbedtls_peek.h"
#include "common/tls/mbedtls_records.h"
#include "common/tls/tls_config_impl.h"
#include "common/tls/tls_failure.h"

namespace culvert::tls {
namespace {

// mbedTLS may return "want read" with input at hand (RFC 8446 messages after the handshake). Each
// time it has made some progress; more rounds than this without consuming a byte are its bug.
constexpr int kMaxIdleRounds = 16;

// Letters, digits, hyphens and underscores in labels of 1 to 63; no IP literal.
bool is_host_name(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  for (const std::string_view label : split(name, '.')) {
    if (label.empty() || label.size() > 63) return false;
    for (const char c : label) {
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_') return false;
    }
  }
  return true;
}

}  // namespace

struct TlsSession::Impl {
  Impl(std::shared_ptr<const TlsConfig> shared_config, std::string name)
      : config(std::move(shared_config)),
        server_name(std::move(name)),
        judge(config->impl(), server_name.empty() ? std::nullopt : std::optional(server_name)) {}

  [[nodiscard]] Role role() const { return config->role(); }
  Status set_up();
  Io fail_with(int ret);
  // Is there more to do after `ret` said "want read"?
  [[nodiscard]] bool go_on_reading();
  // Looks at what mbedTLS forgets later.
  void note_progress();
  // The payload of the next record if that is whole and nothing but data, as nearly all are, else
  // nothing. Not copied on its way, as it is through mbedTLS's own buffer.
  [[nodiscard]] size_t open_record(MutableBytes out);
  // 0 or an mbedTLS error. REQUIRES: it fits into one record.
  int seal_record(Bytes plaintext);

  static int on_send(void* self, const unsigned char* data, size_t size) noexcept;
  static int on_receive(void* self, unsigned char* out, size_t size) noexcept;

  const std::shared_ptr<const TlsConfig> config;
  const std::string server_name;
  Judge judge;
  Bytes input;  // borrowed from the caller of feed()
  bool eof = false;
  ByteQueue output;
  Error error;
  bool failed = false;
  bool closed = false;
  bool requested = false;  // client: our certificate was asked for
  size_t idle_rounds = 0;
  bool inside_record = false;  // the last read() left a part of its record
  // Of a record of ours; known once the first one is sealed.
  size_t expansion = 0;
  size_t max_plaintext = 0;
  uint64_t sent = 0;
  uint64_t received = 0;
  uint64_t sent_blocks = 0;
  uint64_t received_blocks = 0;
  // Last, so that it goes first.
  Object<mbedtls_ssl_context, mbedtls_ssl_init, mbedtls_ssl_free> ssl;
};

int TlsSession::Impl::on_send(void* self, const unsigned char* data, size_t size) noexcept {
  try {
    auto& impl = *static_cast<Impl*>(self);
    impl.output.append({reinterpret_cast<const std::byte*>(data), size});
    return static_cast<int>(size);  // at most one flight of records
  } catch (...) {
    return MBEDTLS_ERR_SSL_ALLOC_FAILED;
  }
}

int TlsSession::Impl::on_receive(void* self, unsigned char* out, size_t size) noexcept {
  auto& impl = *static_cast<Impl*>(self);
  if (impl.input.empty()) return impl.eof ? 0 : MBEDTLS_ERR_SSL_WANT_READ;
  const size_t part = std::min(size, impl.input.size());
  std::memcpy(out, impl.input.data(), part);
  impl.input = impl.input.subspan(part);
  impl.idle_rounds = 0;
  return static_cast<int>(part);
}

Status TlsSession::Impl::set_up() {
  int ret = mbedtls_ssl_setup(ssl.get(), config->impl().ssl.get());
  if (ret == 0 && role() == Role::kClient) {
    // An address is not sent as a name (RFC 6066 section 3). Without a name mbedTLS checks none,
    // but the judge does in both cases.
    const bool is_address = IpAddress::parse(server_name).has_value();
    ret = mbedtls_ssl_set_hostname(ssl.get(), is_address ? nullptr : server_name.c_str());
  }
  if (ret != 0) {
    return fail(ErrorCode::kFailure, "a TLS session cannot be set up: " + error_text(ret));
  }
  mbedtls_ssl_set_bio(ssl.get(), this, on_send, on_receive, nullptr);
  mbedtls_ssl_set_verify(ssl.get(), Judge::on_certificate, &judge);
  return {};
}

void TlsSession::Impl::note_progress() {
  if (role() == Role::kClient && !requested) {
    requested = culvert_certificate_requested(ssl.get()) != 0;
  }
}

bool TlsSession::Impl::go_on_reading() {
  if (input.empty() && mbedtls_ssl_check_pending(ssl.get()) == 0) return false;
  return ++idle_rounds <= kMaxIdleRounds;
}

size_t TlsSession::Impl::open_record(MutableBytes out) {
  const CulvertStreamRecord found =
      culvert_open_stream_record(ssl.get(), raw(input), input.size(), raw(out), out.size());
  if (found.record_size == 0) return 0;
  input = input.subspan(found.record_size);
  idle_rounds = 0;
  return found.plaintext_size;
}

int TlsSession::Impl::seal_record(Bytes plaintext) {
  const MutableBytes room = output.room(plaintext.size() + expansion);
  size_t sealed = 0;
  const int ret = culvert_seal_record(ssl.get(), raw(plaintext), plaintext.size(), raw(room),
                                      room.size(), &sealed);
  output.added(sealed);
  return ret;
}

TlsSession::Io TlsSession::Impl::fail_with(int ret) {
  FailureScene scene;
  scene.role = role();
  scene.mbedtls_error = ret;
  if (ret == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) scene.alert = culvert_alert_number(ssl.get());
  scene.handshake_done = mbedtls_ssl_is_handshake_over(ssl.get()) != 0;
  scene.anything_read = received != 0;
  scene.certificate_requested = requested;
  scene.have_certificate = config->has_own_certificate();
  scene.verdict = &judge.verdict();
  scene.server_name = server_name;
  error = explain_failure(scene);
  failed = true;
  input = {};
  return Io::kFailed;
}

Result<std::unique_ptr<TlsSession>> TlsSession::create(std::shared_ptr<const TlsConfig> config,
                                                       std::string server_name) {
  if (config->role() == Role::kServer) {
    server_name.clear();
  } else {
    if (!server_name.empty() && server_name.back() == '.') server_name.pop_back();
    if (!IpAddress::parse(server_name) && !is_host_name(server_name)) {
      return fail(ErrorCode::kUsage,
                  "not a host name or IP address: '" + escape_for_display(server_name) + "'");
    }
  }
  auto impl = std::make_unique<Impl>(std::move(config), std::move(server_name));
  if (const auto ready = impl->set_up(); !ready) return ready.error();
  return std::unique_ptr<TlsSession>(new TlsSession(std::move(impl)));
}

TlsSession::TlsSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsSession::~TlsSession() = default;

void TlsSession::feed(Bytes from_network) {
  assert(impl_->input.empty());
  impl_->input = from_network;
}

void TlsSession::feed_eof() {
  impl_->eof = true;
}

Bytes TlsSession::unconsumed_input() const {
  return impl_->input;
}

bool TlsSession::handshake_done() const {
  return !impl_->failed && mbedtls_ssl_is_handshake_over(impl_->ssl.get()) != 0;
}

TlsSession::Io TlsSession::handshake() {
  if (impl_->failed) return Io::kFailed;
  mbedtls_ssl_context* const ssl = impl_->ssl.get();
  while (mbedtls_ssl_is_handshake_over(ssl) == 0) {
    const int ret = mbedtls_ssl_handshake_step(ssl);
    impl_->note_progress();
    if (ret == 0) continue;
    if (ret != MBEDTLS_ERR_SSL_WANT_READ) return impl_->fail_with(ret);
    if (!impl_->go_on_reading()) return Io::kWantRead;
  }
  return Io::kOk;
}

TlsSession::ReadResult TlsSession::read(MutableBytes out) {
  Impl& impl = *impl_;
  assert(!out.empty());
  if (impl.failed) return {Io::kFailed, 0};
  if (impl.closed) return {Io::kClosed, 0};
  for (;;) {
    if (const size_t size = impl.open_record(out); size != 0) {
      ++impl.received;
      impl.received_blocks += blocks_of(size);
      return {Io::kOk, size};
    }
    const int ret = mbedtls_ssl_read(impl.ssl.get(), raw(out), out.size());
    if (ret > 0) {
      if (!impl.inside_record) ++impl.received;
      impl.received_blocks += blocks_of(static_cast<size_t>(ret));
      impl.inside_record = mbedtls_ssl_get_bytes_avail(impl.ssl.get()) != 0;
      return {Io::kOk, static_cast<size_t>(ret)};
    }
    if (ret == 0 || ret == MBEDTLS_ERR_SSL_CONN_EOF || ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
      impl.closed = true;
      return {Io::kClosed, 0};
    }
    if (ret == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) continue;  // of no use to us
    if (ret != MBEDTLS_ERR_SSL_WANT_READ) return {impl.fail_with(ret), 0};
    if (!impl.go_on_reading()) return {Io::kWantRead, 0};
  }
}

TlsSession::Io TlsSession::write(Bytes plaintext) {
  assert(!plaintext.empty());
  Impl& impl = *impl_;
  if (impl.failed) return Io::kFailed;
  if (impl.expansion == 0) {
    const int more = mbedtls_ssl_get_record_expansion(impl.ssl.get());
    const int most = mbedtls_ssl_get_max_out_record_payload(impl.ssl.get());
    if (more <= 0 || most <= 0) return impl.fail_with(MBEDTLS_ERR_SSL_INTERNAL_ERROR);
    impl.expansion = static_cast<size_t>(more);
    impl.max_plaintext = static_cast<size_t>(most);
  }
  while (!plaintext.empty()) {
    const Bytes part = plaintext.first(std::min(plaintext.size(), impl.max_plaintext));
    if (const int ret = impl.seal_record(part); ret != 0) return impl.fail_with(ret);
    ++impl.sent;
    impl.sent_blocks += blocks_of(part.size());
    plaintext = plaintext.subspan(part.size());
  }
  return Io::kOk;
}

Bytes TlsSession::pending_output() const {
  return impl_->output.bytes();
}
void TlsSession::consume_output(size_t size) {
  impl_->output.consume(size);
}

void TlsSession::close_notify() {
  // Does nothing before the handshake is over; its failure would tell nobody anything.
  if (!impl_->failed) (void)mbedtls_ssl_close_notify(impl_->ssl.get());
}

Status TlsSession::export_key(std::string_view label, MutableBytes out) {
  const int ret = mbedtls_ssl_export_keying_material(impl_->ssl.get(), raw(out), out.size(),
                                                     label.data(), label.size(), nullptr, 0, 0);
  if (ret == 0) return {};
  return fail(ErrorCode::kFailure,
              "no key can be exported from the TLS session: " + error_text(ret));
}

const Error& TlsSession::error() const {
  return impl_->error;
}
const Verdict& TlsSession::server_verdict() const {
  return impl_->judge.verdict();
}
bool TlsSession::certificate_requested() const {
  return impl_->requested;
}

std::string_view TlsSession::version() const {
  return handshake_done() ? mbedtls_ssl_get_version(impl_->ssl.get()) : std::string_view();
}

std::string_view TlsSession::cipher() const {
  const char* name = handshake_done() ? mbedtls_ssl_get_ciphersuite(impl_->ssl.get()) : nullptr;
  return name != nullptr ? std::string_view(name) : std::string_view();
}

uint64_t TlsSession::records_sent() const {
  return impl_->sent;
}
uint64_t TlsSession::records_received() const {
  return impl_->received;
}
uint64_t TlsSession::blocks_sent() const {
  return impl_->sent_blocks;
}
uint64_t TlsSession::blocks_received() const {
  return impl_->received_blocks;
}
const std::string& TlsSession::server_name() const {
  return impl_->server_name;
}
const TlsConfig& TlsSession::config() const {
  return *impl_->config;
}

std::vector<std::vector<std::byte>> TlsSession::peer_chain_der() const {
  std::vector<std::vector<std::byte>> chain;
  if (!handshake_done()) return chain;
  for (const mbedtls_x509_crt* one = mbedtls_ssl_get_peer_cert(impl_->ssl.get()); one != nullptr;
       one = one->next) {
    const Bytes der = bytes_of(one->raw);
    if (!der.empty()) chain.emplace_back(der.begin(), der.end());
  }
  return chain;
}

Verdict judge_client(const TlsSession& session) {
  const TlsSession::Impl& impl = *session.impl_;
  if (impl.role() != Role::kServer || !session.handshake_done()) {
    return {Reason::kMalformed, "the handshake is not over", std::nullopt};
  }
  const Verdict& verdict = impl.judge.verdict();
  if (!verdict.accepted()) return verdict;
  // Two things that cannot be, unless the library changed under us: better to refuse.
  const uint32_t flags = mbedtls_ssl_get_verify_result(impl.ssl.get());
  if (flags != 0 || mbedtls_ssl_get_peer_cert(impl.ssl.get()) == nullptr) {
    return {Reason::kMalformed,
            "its certificate cannot be accepted (flags " + std::to_string(flags) + ")",
            verdict.peer};
  }
  return verdict;
}

}  // namespace culvert::tls
