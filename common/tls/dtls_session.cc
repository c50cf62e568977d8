#include "common/tls/dtls_session.h"

#include <mbedtls/ssl.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

#include "common/tls/block_count.h"
#include "common/tls/dtls_config_impl.h"
#include "common/tls/dtls_outbox.h"
#include "common/tls/mbedtls_peek.h"
#include "common/tls/mbedtls_records.h"
#include "common/tls/replay_window.h"
#include "common/tls/tls_failure.h"

namespace culvert::tls {
namespace {

constexpr uint16_t kMinMtu = 256;
constexpr std::string_view kIdentity = "psk";  // what stock clients send; servers don't look

// What mbedTLS itself remembers of a record's number.
constexpr uint64_t kOwnWindow = 64;
constexpr uint16_t kDataEpoch = 1;  // nobody renegotiates

bool holds(const CulvertReplayWindow& window, uint64_t number) {
  const uint64_t age = window.newest - number;
  return number <= window.newest && age < kOwnWindow && (window.seen >> age & 1) != 0;
}

// A record with a connection ID hides its type. One this small may be an alert or a repeated
// Finished, which mbedTLS has to see; no packet that there are many of is.
constexpr size_t kMaxHiddenMessage = 64;

// More records than a datagram of peers has: see open().
constexpr int kMaxRounds = 64;

// The alerts (RFC 8446 section 6.2) that tell a client of a wrong key.
constexpr int kBadRecordMac = 20;
constexpr int kDecryptError = 51;

Status check(const DtlsConfig& config, const DtlsSessionOptions& options) {
  if (options.psk.bytes().size() != kDtlsPskSize) {
    return fail(ErrorCode::kUsage, "a DTLS key has 32 bytes");
  }
  if (options.own_cid.size() != config.options().cid_size.value_or(0)) {
    return fail(ErrorCode::kUsage, "the connection ID has not the length of the configuration");
  }
  if (options.transport_id.size() > UINT8_MAX) {
    return fail(ErrorCode::kUsage, "the transport ID is too long");
  }
  if (options.mtu != 0 && options.mtu < kMinMtu) {
    return fail(ErrorCode::kUsage, "an MTU of " + std::to_string(options.mtu) +
                                       " bytes is too small for a DTLS handshake");
  }
  return {};
}

}  // namespace

struct DtlsSession::Impl {
  Impl(std::shared_ptr<const DtlsConfig> shared_config, DtlsSessionOptions session_options)
      : config(std::move(shared_config)), options(std::move(session_options)) {}

  [[nodiscard]] bool is_server() const { return config->options().role == Role::kServer; }
  [[nodiscard]] size_t cid_size() const { return options.own_cid.size(); }
  [[nodiscard]] bool is_over() { return mbedtls_ssl_is_handshake_over(ssl.get()) != 0; }
  Status set_up();
  Status set_up_client();
  Status set_up_server();
  void give_input(Bytes datagram);
  bool is_expected_hello(Bytes datagram);
  Handshake step();
  void note_handshake_end();
  void fail_with(int ret);
  Opened end_of_read(int ret);
  [[nodiscard]] std::optional<uint64_t> lone_number() const;
  [[nodiscard]] std::optional<LoneRecord> plain_record(Bytes datagram) const;
  OpenResult open_in_place(const LoneRecord& record, MutableBytes datagram);
  OpenResult opened(MutableBytes plaintext);
  int read(MutableBytes out);
  int read_once(MutableBytes out);
  void update_limits();

  static int on_send(void* self, const unsigned char* data, size_t size) noexcept;
  static int on_receive(void* self, unsigned char* out, size_t size) noexcept;
  static void on_set_timer(void* self, uint32_t intermediate_ms, uint32_t final_ms) noexcept;
  static int on_get_timer(void* self) noexcept;

  const std::shared_ptr<const DtlsConfig> config;
  DtlsSessionOptions options;
  std::unique_ptr<DtlsCookieResponder> cookies;  // server that wants them, until the ClientHello
  SslConfig client;                              // client: its own configuration
  bool started = false;
  bool failed = false;
  bool closed = false;
  Error error;

  Bytes input;  // borrowed for the call
  DtlsOutbox outbox;

  TimePoint now{};
  std::optional<TimePoint> deadline;
  bool expired = false;

  size_t expansion = 0;
  size_t max_plaintext = 0;
  uint64_t newest = 0;
  ReplayWindow window;
  uint64_t sent = 0;
  uint64_t received = 0;
  uint64_t sent_blocks = 0;
  uint64_t received_blocks = 0;
  std::array<unsigned char, MBEDTLS_SSL_CID_OUT_LEN_MAX> peer_cid{};
  size_t peer_cid_size = 0;
  bool has_cids = false;
  // Last, so that it goes first.
  Object<mbedtls_ssl_context, mbedtls_ssl_init, mbedtls_ssl_free> ssl;
};

// --- What mbedTLS calls.

// Takes everything, always: a record is encrypted by now, and a datagram may get lost.
int DtlsSession::Impl::on_send(void* self, const unsigned char* data, size_t size) noexcept {
  auto& impl = *static_cast<Impl*>(self);
  const Bytes datagram{reinterpret_cast<const std::byte*>(data), size};
  try {
    impl.outbox.push(datagram);
  } catch (...) {  // out of memory: a lost datagram
  }
  return static_cast<int>(size);
}

int DtlsSession::Impl::on_receive(void* self, unsigned char* out, size_t size) noexcept {
  auto& impl = *static_cast<Impl*>(self);
  const Bytes datagram = std::exchange(impl.input, {});
  if (datagram.empty() || datagram.size() > size) return MBEDTLS_ERR_SSL_WANT_READ;
  std::memcpy(out, datagram.data(), datagram.size());
  return static_cast<int>(datagram.size());
}

void DtlsSession::Impl::on_set_timer(void* self, uint32_t /*intermediate_ms*/,
                                     uint32_t final_ms) noexcept {
  auto& impl = *static_cast<Impl*>(self);
  impl.expired = false;
  impl.deadline.reset();
  if (final_ms != 0) impl.deadline = impl.now + std::chrono::milliseconds(final_ms);
}

// -1: none runs; 0: not yet; 2: it is time. No clock is read: on_timeout() knows.
int DtlsSession::Impl::on_get_timer(void* self) noexcept {
  const auto& impl = *static_cast<const Impl*>(self);
  if (!impl.deadline) return -1;
  return impl.expired ? 2 : 0;
}

// --- Setting up.

Status DtlsSession::Impl::set_up_client() {
  mbedtls_ssl_config* const own = client.get();
  if (const auto done = config->impl().set_up(own); !done) return done.error();
  int ret = mbedtls_ssl_conf_psk(own, raw(Bytes(options.psk.bytes())), options.psk.bytes().size(),
                                 raw(as_bytes(kIdentity)), kIdentity.size());
  if (ret == 0) ret = mbedtls_ssl_setup(ssl.get(), own);
  if (ret == 0) ret = mbedtls_ssl_set_hostname(ssl.get(), nullptr);
  if (ret == 0) {
    ret = culvert_offer_session_id(ssl.get(), raw(Bytes(options.app_id)), options.app_id.size());
  }
  options.psk = Secret();  // the configuration has its own copy
  if (ret == 0) return {};
  return fail(ErrorCode::kFailure, "a DTLS session cannot be set up: " + error_text(ret));
}

Status DtlsSession::Impl::set_up_server() {
  const int ret = mbedtls_ssl_setup(ssl.get(), config->impl().server.get());
  if (ret != 0) {
    return fail(ErrorCode::kFailure, "a DTLS session cannot be set up: " + error_text(ret));
  }
  mbedtls_ssl_set_user_data_p(ssl.get(), &options.psk);
  if (config->options().cookie_key == nullptr) return {};
  auto responder = DtlsCookieResponder::create(config->options().cookie_key);
  if (!responder) return responder.error();
  cookies = std::move(*responder);
  return {};
}

Status DtlsSession::Impl::set_up() {
  if (const auto done = is_server() ? set_up_server() : set_up_client(); !done) return done.error();
  if (config->options().cid_size) {
    const std::byte none{};  // an empty vector may have no address, which memcpy() does not take
    const auto* id = options.own_cid.empty() ? &none : options.own_cid.data();
    const int ret = mbedtls_ssl_set_cid(ssl.get(), MBEDTLS_SSL_CID_ENABLED,
                                        raw(Bytes(id, cid_size())), cid_size());
    if (ret != 0) {
      return fail(ErrorCode::kFailure, "a connection ID cannot be set: " + error_text(ret));
    }
  }
  mbedtls_ssl_set_bio(ssl.get(), this, on_send, on_receive, nullptr);
  mbedtls_ssl_set_timer_cb(ssl.get(), this, on_set_timer, on_get_timer);
  mbedtls_ssl_set_mtu(ssl.get(), options.mtu);
  return {};
}

Result<std::unique_ptr<DtlsSession>> DtlsSession::create(std::shared_ptr<const DtlsConfig> config,
                                                         DtlsSessionOptions options) {
  if (const auto fine = check(*config, options); !fine) return fine.error();
  auto impl = std::make_unique<Impl>(std::move(config), std::move(options));
  if (const auto ready = impl->set_up(); !ready) return ready.error();
  return std::unique_ptr<DtlsSession>(new DtlsSession(std::move(impl)));
}

DtlsSession::DtlsSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DtlsSession::~DtlsSession() = default;

// --- The handshake.

// A remainder that is no whole record would put mbedTLS out of action for good.
void DtlsSession::Impl::give_input(Bytes datagram) {
  input = datagram.first(whole_records(datagram, cid_size()));
}

// A server of mbedTLS fails on the first thing that is not the ClientHello it waits for.
bool DtlsSession::Impl::is_expected_hello(Bytes datagram) {
  const auto hello = parse_client_hello(datagram);
  if (!hello || hello->app_id() != options.app_id) return false;
  return cookies == nullptr ? hello->cookie.empty()
                            : cookies->is_ours(*hello, options.transport_id);
}

DtlsSession::Handshake DtlsSession::Impl::step() {
  int ret = 0;
  do {
    ret = mbedtls_ssl_handshake(ssl.get());
  } while (ret == MBEDTLS_ERR_SSL_WANT_READ && !input.empty());
  input = {};
  if (ret == MBEDTLS_ERR_SSL_WANT_READ) return Handshake::kWaiting;
  if (ret != 0) {
    fail_with(ret);
    return Handshake::kFailed;
  }
  note_handshake_end();
  return Handshake::kDone;
}

void DtlsSession::Impl::note_handshake_end() {
  options.psk = Secret();
  cookies.reset();
  deadline.reset();
  int enabled = MBEDTLS_SSL_CID_DISABLED;
  if (mbedtls_ssl_get_peer_cid(ssl.get(), &enabled, peer_cid.data(), &peer_cid_size) != 0 ||
      enabled == MBEDTLS_SSL_CID_DISABLED) {
    peer_cid_size = 0;
  }
  has_cids = enabled != MBEDTLS_SSL_CID_DISABLED;
  newest = culvert_replay_window_of(ssl.get()).newest;
  window.close_up_to(newest);
  culvert_forget_estimated_mtu(ssl.get());
  update_limits();
}

void DtlsSession::Impl::update_limits() {
  const int more = mbedtls_ssl_get_record_expansion(ssl.get());
  const int most = mbedtls_ssl_get_max_out_record_payload(ssl.get());
  expansion = more > 0 ? static_cast<size_t>(more) : 0;
  max_plaintext = most > 0 ? static_cast<size_t>(most) : 0;
}

DtlsSession::Handshake DtlsSession::handshake(TimePoint now, Bytes datagram) {
  Impl& impl = *impl_;
  if (impl.failed) return Handshake::kFailed;
  if (impl.is_over()) return Handshake::kDone;
  if (impl.is_server() && !impl.started && !impl.is_expected_hello(datagram)) {
    return Handshake::kWaiting;
  }
  impl.started = true;
  impl.now = now;
  impl.give_input(datagram);
  return impl.step();
}

std::optional<TimePoint> DtlsSession::deadline() const {
  return impl_->deadline;
}

DtlsSession::Handshake DtlsSession::on_timeout(TimePoint now) {
  Impl& impl = *impl_;
  if (impl.failed) return Handshake::kFailed;
  if (impl.is_over()) return Handshake::kDone;
  if (!impl.deadline || now < *impl.deadline) return Handshake::kWaiting;
  impl.expired = true;
  impl.now = now;
  return impl.step();
}

bool DtlsSession::handshake_done() const {
  return !impl_->failed && impl_->is_over();
}

Bytes DtlsSession::output() const {
  return impl_->outbox.front();
}
void DtlsSession::pop_output() {
  impl_->outbox.pop();
}

// --- Failures.

void DtlsSession::Impl::fail_with(int ret) {
  const int alert =
      ret == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE ? culvert_alert_number(ssl.get()) : -1;
  const bool done = is_over();
  failed = true;
  deadline.reset();
  input = {};
  const bool wrong_key =
      ret == MBEDTLS_ERR_SSL_INVALID_MAC || alert == kBadRecordMac || alert == kDecryptError;
  if (!done && wrong_key) {
    error = fail(ErrorCode::kAuthRefused, "the peer has another key for this DTLS session");
  } else if (!done && ret == MBEDTLS_ERR_SSL_TIMEOUT) {
    error = fail(ErrorCode::kNetwork, "no answer to the DTLS handshake", {},
                 "is UDP blocked on the way?");
  } else {
    const std::string text =
        alert >= 0 ? "the peer ended it: " + alert_text(alert) : error_text(ret);
    error =
        fail(ErrorCode::kNetwork, (done ? "DTLS failed: " : "the DTLS handshake failed: ") + text);
  }
}

// --- Data.

size_t DtlsSession::seal(Bytes plaintext, MutableBytes out) {
  Impl& impl = *impl_;
  if (plaintext.empty() || plaintext.size() > impl.max_plaintext || impl.failed ||
      out.size() < plaintext.size() + impl.expansion) {
    return 0;
  }
  size_t sealed = 0;
  const int ret = culvert_seal_record(impl.ssl.get(), raw(plaintext), plaintext.size(), raw(out),
                                      out.size(), &sealed);
  if (ret != 0) {
    impl.fail_with(ret);
    return 0;
  }
  ++impl.sent;
  impl.sent_blocks += blocks_of(plaintext.size());
  return sealed;
}

DtlsSession::Opened DtlsSession::Impl::end_of_read(int ret) {
  if (ret == MBEDTLS_ERR_SSL_WANT_READ) return Opened::kNothing;
  if (ret == 0 || ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
    closed = true;
    return Opened::kClosed;
  }
  fail_with(ret);
  return Opened::kFailed;
}

// Of the record of data that is the whole datagram.
std::optional<uint64_t> DtlsSession::Impl::lone_number() const {
  const RecordView record = first_record(input, cid_size());
  const bool data =
      record.kind == RecordKind::kApplication || record.kind == RecordKind::kConnectionId;
  if (!data || record.size != input.size() || record.epoch != kDataEpoch) return std::nullopt;
  return record.sequence;
}

int DtlsSession::Impl::read(MutableBytes out) {
  int ret = MBEDTLS_ERR_SSL_WANT_READ;
  // A harmless alert ends a read before the datagram does.
  for (int round = 0; round < kMaxRounds && ret == MBEDTLS_ERR_SSL_WANT_READ; ++round) {
    ret = mbedtls_ssl_read(ssl.get(), raw(out), out.size());
    if (input.empty() && mbedtls_ssl_check_pending(ssl.get()) == 0) break;
  }
  return ret;
}

// Each record is read once, and those that mbedTLS would not remember are judged by our own, longer
// memory: for one of them, mbedTLS's is replaced by one that waits for just this number. Whatever
// else was authentic (alerts, several records in a datagram: rare) closes our memory behind it.
int DtlsSession::Impl::read_once(MutableBytes out) {
  const CulvertReplayWindow before = culvert_replay_window_of(ssl.get());
  const auto number = lone_number();
  const bool late = number && *number < before.newest && before.newest - *number >= kOwnWindow;
  if (late) {
    if (!window.is_new(*number)) return MBEDTLS_ERR_SSL_WANT_READ;
    culvert_set_replay_window(ssl.get(), {*number, 0});
  }
  const int ret = read(out);
  const CulvertReplayWindow after = culvert_replay_window_of(ssl.get());
  if (late) culvert_set_replay_window(ssl.get(), before);
  if (number) {
    if (holds(after, *number)) window.mark(*number);
  } else if (after.newest != before.newest || after.seen != before.seen) {
    window.close_up_to(after.newest);
  }
  return ret;
}

// The datagram's record if it is nothing but data of the current key: nearly always.
std::optional<LoneRecord> DtlsSession::Impl::plain_record(Bytes datagram) const {
  if (culvert_can_open_in_place(ssl.get()) == 0) return std::nullopt;
  const auto record = lone_record(datagram, cid_size());
  if (!record || record->epoch != kDataEpoch) return std::nullopt;
  const bool may_hide = datagram.size() - record->header <= kMaxHiddenMessage;
  return record->has_cid && (!has_cids || may_hide) ? std::nullopt : record;
}

DtlsSession::OpenResult DtlsSession::Impl::open_in_place(const LoneRecord& record,
                                                         MutableBytes datagram) {
  constexpr OpenResult kNobodys{Opened::kNothing, false};
  if (!window.is_new(record.sequence)) return kNobodys;
  CulvertOpenedRecord found{};
  if (culvert_open_record(ssl.get(), raw(datagram), datagram.size(), record.header, &found) != 0) {
    return kNobodys;
  }
  window.mark(record.sequence);
  if (found.size == 0) return kNobodys;
  return opened({reinterpret_cast<std::byte*>(found.plaintext), found.size});
}

DtlsSession::OpenResult DtlsSession::Impl::opened(MutableBytes plaintext) {
  ++received;
  received_blocks += blocks_of(plaintext.size());
  const uint64_t now_newest = culvert_replay_window_of(ssl.get()).newest;
  return {Opened::kOk, now_newest > std::exchange(newest, now_newest), plaintext};
}

DtlsSession::OpenResult DtlsSession::open(MutableBytes datagram, MutableBytes out) {
  Impl& impl = *impl_;
  if (impl.failed) return {Opened::kFailed, false};
  if (impl.closed) return {Opened::kClosed, false};
  if (out.empty() || out.size() < datagram.size()) return {Opened::kNothing, false};
  if (const auto record = impl.plain_record(datagram)) return impl.open_in_place(*record, datagram);
  impl.give_input(datagram);
  const int ret = impl.read_once(out);
  impl.input = {};
  if (ret <= 0) return {impl.end_of_read(ret), false};
  return impl.opened(out.first(static_cast<size_t>(ret)));
}

bool DtlsSession::more() const {
  return mbedtls_ssl_check_pending(impl_->ssl.get()) != 0;
}

void DtlsSession::close_notify() {
  // Does nothing before the handshake is over; its failure would tell nobody anything.
  if (!impl_->failed) (void)mbedtls_ssl_close_notify(impl_->ssl.get());
}

void DtlsSession::set_mtu(uint16_t mtu) {
  impl_->options.mtu = mtu;
  mbedtls_ssl_set_mtu(impl_->ssl.get(), mtu);
  if (impl_->is_over()) impl_->update_limits();
}

size_t DtlsSession::expansion() const {
  return impl_->expansion;
}
size_t DtlsSession::max_plaintext() const {
  return impl_->max_plaintext;
}

// --- What it is like.

const Error& DtlsSession::error() const {
  return impl_->error;
}

std::string_view DtlsSession::cipher() const {
  const char* name = impl_->is_over() ? mbedtls_ssl_get_ciphersuite(impl_->ssl.get()) : nullptr;
  return name != nullptr ? std::string_view(name) : std::string_view();
}

Bytes DtlsSession::peer_cid() const {
  return std::as_bytes(std::span(impl_->peer_cid)).first(impl_->peer_cid_size);
}
Bytes DtlsSession::own_cid() const {
  return impl_->has_cids ? Bytes(impl_->options.own_cid) : Bytes();
}

uint64_t DtlsSession::records_sent() const {
  return impl_->sent;
}
uint64_t DtlsSession::records_received() const {
  return impl_->received;
}
uint64_t DtlsSession::blocks_sent() const {
  return impl_->sent_blocks;
}
uint64_t DtlsSession::blocks_received() const {
  return impl_->received_blocks;
}

}  // namespace culvert::tls
