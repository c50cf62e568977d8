#include "common/tls/dtls_cookie.h"

#include <mbedtls/md.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <optional>
#include <utility>

#include "common/tls/mbedtls_objects.h"
#include "common/tls/random.h"

namespace culvert::tls {
namespace {

constexpr size_t kKeySize = 32;
constexpr size_t kTimeSize = 4;
constexpr size_t kMacSize = kCookieSize - kTimeSize;

// Wraps after 4000 years.
uint32_t period_of(TimePoint now) {
  return static_cast<uint32_t>(now.time_since_epoch() / DtlsCookieResponder::kLifetime);
}

}  // namespace

std::shared_ptr<const DtlsCookieKey> DtlsCookieKey::generate() {
  Secret key(kKeySize);
  random_bytes(key.bytes());
  return std::make_shared<const DtlsCookieKey>(std::move(key));
}

DtlsCookieKey::DtlsCookieKey(Secret key) : key_(std::move(key)) {
  assert(key_.bytes().size() == kKeySize);
}

struct DtlsCookieResponder::Impl {
  using Mac = std::array<std::byte, kMacSize>;

  // HMAC-SHA-256, cut. Every field has a fixed size or its length before it. Nothing if the library
  // fails, which it has no reason to.
  std::optional<Mac> mac(uint32_t period, const ClientHello& hello, Bytes transport_id) {
    assert(transport_id.size() <= UINT8_MAX);
    std::array<std::byte, kTimeSize + 2> head{};
    store_be32(head, period);
    head[kTimeSize] = static_cast<std::byte>(transport_id.size());
    head[kTimeSize + 1] = static_cast<std::byte>(hello.session_id.size());
    std::array<std::byte, 32> full{};
    int ret = mbedtls_md_hmac_reset(hmac.get());
    for (const Bytes part : {Bytes(head), transport_id, hello.session_id, hello.random}) {
      if (ret == 0) ret = mbedtls_md_hmac_update(hmac.get(), raw(part), part.size());
    }
    if (ret == 0) ret = mbedtls_md_hmac_finish(hmac.get(), raw(MutableBytes(full)));
    if (ret != 0) return std::nullopt;
    Mac cut;
    std::copy_n(full.begin(), cut.size(), cut.begin());
    return cut;
  }

  Object<mbedtls_md_context_t, mbedtls_md_init, mbedtls_md_free> hmac;
};

Result<std::unique_ptr<DtlsCookieResponder>> DtlsCookieResponder::create(
    std::shared_ptr<const DtlsCookieKey> key) {
  auto impl = std::make_unique<Impl>();
  const auto* sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
  int ret = mbedtls_md_setup(impl->hmac.get(), sha256, 1);
  if (ret == 0) ret = mbedtls_md_hmac_starts(impl->hmac.get(), raw(key->bytes()), kKeySize);
  if (ret != 0) {
    return fail(ErrorCode::kFailure, "DTLS cookies cannot be set up: " + error_text(ret));
  }
  return std::unique_ptr<DtlsCookieResponder>(new DtlsCookieResponder(std::move(impl)));
}

DtlsCookieResponder::DtlsCookieResponder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DtlsCookieResponder::~DtlsCookieResponder() = default;

bool DtlsCookieResponder::is_ours(const ClientHello& hello, Bytes transport_id) {
  if (hello.cookie.size() != kCookieSize) return false;
  const auto mac = impl_->mac(load_be32(hello.cookie), hello, transport_id);
  return mac && equal_constant_time(*mac, hello.cookie.subspan(kTimeSize));
}

bool DtlsCookieResponder::proves_address(const ClientHello& hello, Bytes transport_id,
                                         TimePoint now) {
  if (hello.cookie.size() != kCookieSize) return false;
  const uint32_t age = period_of(now) - load_be32(hello.cookie);  // huge if from the future
  return age <= 1 && is_ours(hello, transport_id);
}

MutableBytes DtlsCookieResponder::answer(const ClientHello& hello, Bytes transport_id,
                                         TimePoint now, MutableBytes out) {
  assert(out.size() >= kHelloVerifyRequestSize);
  const uint32_t period = period_of(now);
  const auto mac = impl_->mac(period, hello, transport_id);
  if (!mac) return {};
  // Handshake record of epoch 0 with the sequence number of the request (RFC 6347 section 4.2.1).
  const MutableBytes datagram = out.first(kHelloVerifyRequestSize);
  std::fill(datagram.begin(), datagram.end(), std::byte{0});
  datagram[0] = std::byte{22};
  store_be16(datagram.subspan(1), 0xfefd);
  store_be16(datagram.subspan(5), static_cast<uint16_t>(hello.record_sequence >> 32));
  store_be32(datagram.subspan(7), static_cast<uint32_t>(hello.record_sequence));
  store_be16(datagram.subspan(11), static_cast<uint16_t>(datagram.size() - kDtlsRecordHeader));
  // The message, unfragmented: type, length, sequence, offset 0, length.
  const MutableBytes message = datagram.subspan(kDtlsRecordHeader);
  message[0] = std::byte{3};
  store_be16(message.subspan(2), 3 + kCookieSize);
  store_be16(message.subspan(4), hello.message_sequence);
  store_be16(message.subspan(10), 3 + kCookieSize);
  // RFC 6347 says 1.0 here whatever follows; the version to come is what all peers were tried with.
  store_be16(message.subspan(12), 0xfefd);
  message[14] = static_cast<std::byte>(kCookieSize);
  store_be32(message.subspan(15), period);
  std::copy(mac->begin(), mac->end(), message.begin() + 15 + kTimeSize);
  return datagram;
}

}  // namespace culvert::tls
