// The response half of connect_headers.h. Reading goes through a table, one row a header.
#include <algorithm>
#include <array>

#include "common/base/text.h"
#include "common/wire/connect_headers.h"
#include "common/wire/cstp.h"
#include "common/wire/header_values.h"

namespace culvert::wire {
namespace {

constexpr std::string_view kPskNegotiate = "PSK-NEGOTIATE";
constexpr size_t kMaxDns = 16;
constexpr size_t kMaxIgnored = 16;
constexpr size_t kMaxBanner = 4096;

// ---- reading ----

// Values in the order of the headers, before they are put together and judged.
struct Draft {
  TunnelParams params;
  std::optional<IpAddress> ipv4, old_ipv6;
  std::optional<uint8_t> ipv4_length, old_ipv6_length;
  uint16_t cstp_mtu = 0, dtls_mtu = 0;
  bool compressed = false;
  DtlsParams dtls;
  bool have_app_id = false, psk = false;
  bool culvert = false;
};

bool read_address(Draft& draft, std::string_view value) {
  const auto address = IpAddress::parse(value);
  if (!address || !is_assignable(*address)) return false;
  (address->is_v4() ? draft.ipv4 : draft.old_ipv6) = *address;
  return true;
}

// Dotted for IPv4; "address/length" for IPv6 in the old style, where only the length is news.
bool read_netmask(Draft& draft, std::string_view value) {
  if (value.find(':') != std::string_view::npos) {
    const auto prefix = Prefix::parse(value);
    if (prefix && prefix->length > 0) draft.old_ipv6_length = prefix->length;
    return draft.old_ipv6_length.has_value();
  }
  const auto length = length_of_netmask(value);
  if (!length || *length == 0) return false;
  draft.ipv4_length = *length;
  return true;
}

bool read_ipv6(Draft& draft, std::string_view value) {
  const auto prefix = Prefix::parse(value);
  if (!prefix || !prefix->address.is_v6() || prefix->length == 0) return false;
  if (!is_assignable(prefix->address)) return false;
  draft.params.ipv6 = *prefix;
  return true;
}

bool read_dns(Draft& draft, std::string_view value) {
  const auto address = IpAddress::parse(value);
  if (!address || !is_assignable(*address) || draft.params.dns.size() == kMaxDns) return false;
  draft.params.dns.push_back(*address);
  return true;
}

bool read_split_dns(Draft& draft, std::string_view value) {
  if (is_domain(value)) draft.params.split_dns.emplace_back(value);
  return is_domain(value);
}

// Blank, comma or semicolon separated in, blank separated out; the last line counts.
bool read_default_domain(Draft& draft, std::string_view value) {
  std::string list(value);
  std::replace_if(
      list.begin(), list.end(), [](char c) { return c == ',' || c == ';'; }, ' ');
  std::string out;
  bool good = true;
  for (const std::string_view domain : split(list, ' ')) {
    if (domain.empty()) continue;
    if (!is_domain(domain)) {
      good = false;
      continue;
    }
    out += (out.empty() ? "" : " ") + std::string(domain);
  }
  draft.params.default_domain = std::move(out);
  return good;
}

template <auto kList>
bool read_route(Draft& draft, std::string_view value) {
  const auto route = parse_route(value);
  if (route) (draft.params.*kList).push_back(*route);
  return route.has_value();
}

template <auto kField>
bool read_seconds(Draft& draft, std::string_view value) {
  const auto seconds = parse_seconds(value);
  if (seconds) draft.params.*kField = *seconds;
  return seconds.has_value();
}

// As read_seconds, but "none" and 0 (which ocserv writes for a limit that is not set) are nothing.
template <auto kField>
bool read_limit(Draft& draft, std::string_view value) {
  if (iequals(value, "none")) return true;
  const auto seconds = parse_seconds(value);
  if (seconds && seconds->count() > 0) draft.params.*kField = *seconds;
  return seconds.has_value();
}

template <auto kField>
bool read_dtls_seconds(Draft& draft, std::string_view value) {
  const auto seconds = parse_seconds(value);
  if (seconds) draft.dtls.*kField = *seconds;
  return seconds.has_value();
}

// The channel cannot carry more than a frame does, whatever the server thinks.
template <auto kField>
bool read_mtu(Draft& draft, std::string_view value) {
  const auto mtu = parse_mtu(value, static_cast<uint16_t>(kCstpMaxPayload));
  if (mtu) draft.*kField = *mtu;
  return mtu.has_value();
}

bool read_base_mtu(Draft& draft, std::string_view value) {
  const auto mtu = parse_mtu(value, UINT16_MAX);
  if (mtu) draft.params.base_mtu = *mtu;
  return mtu.has_value();
}

bool read_rekey_method(Draft& draft, std::string_view value) {
  if (iequals(value, "new-tunnel")) draft.params.rekey_method = RekeyMethod::kNewTunnel;
  if (iequals(value, "ssl")) draft.params.rekey_method = RekeyMethod::kSsl;
  return true;
}

bool read_hostname(Draft& draft, std::string_view value) {
  if (is_host_label(value)) draft.params.hostname = std::string(value);
  return is_host_label(value);
}

bool read_banner(Draft& draft, std::string_view value) {
  draft.params.banner = percent_decode(value.substr(0, kMaxBanner));
  return true;
}

bool read_encoding(Draft& draft, std::string_view value) {
  draft.compressed = draft.compressed || !iequals(value, "identity");
  return true;
}

bool read_dtls_port(Draft& draft, std::string_view value) {
  const auto port = parse_decimal(value, 1, 65535);
  if (port) draft.dtls.port = static_cast<uint16_t>(*port);
  return port.has_value();
}

bool read_app_id(Draft& draft, std::string_view value) {
  const auto id = from_hex(value);
  draft.have_app_id = id && id->size() == draft.dtls.app_id.size();
  if (draft.have_app_id) std::copy(id->begin(), id->end(), draft.dtls.app_id.begin());
  return draft.have_app_id;
}

bool read_dtls_suite(Draft& draft, std::string_view value) {
  draft.psk = value == kPskNegotiate;
  return true;
}

bool read_culvert_version(Draft& draft, std::string_view value) {
  draft.culvert = is_culvert_version(value);
  return draft.culvert;
}

bool read_features(Draft& draft, std::string_view value) {
  draft.params.features = parse_features(value.substr(0, kMaxFeatures));
  return true;
}

bool read_attach_mode(Draft& draft, std::string_view value) {
  draft.params.attach = parse_attach_mode(value);
  return draft.params.attach != AttachMode::kNone;
}

// False from a row means: the value made no sense and was left out.
struct Row {
  std::string_view name;
  bool (*read)(Draft&, std::string_view);
};
using P = TunnelParams;
constexpr std::array kRows = {
    Row{"X-CSTP-Address", read_address},
    Row{"X-CSTP-Netmask", read_netmask},
    Row{"X-CSTP-Address-IP6", read_ipv6},
    Row{"X-CSTP-MTU", read_mtu<&Draft::cstp_mtu>},
    Row{"X-DTLS-MTU", read_mtu<&Draft::dtls_mtu>},
    Row{"X-CSTP-Base-MTU", read_base_mtu},
    Row{"X-CSTP-DNS", read_dns},
    Row{"X-CSTP-DNS-IP6", read_dns},
    Row{"X-CSTP-Split-DNS", read_split_dns},
    Row{"X-CSTP-Default-Domain", read_default_domain},
    Row{"X-CSTP-Split-Include", read_route<&P::split_include>},
    Row{"X-CSTP-Split-Include-IP6", read_route<&P::split_include>},
    Row{"X-CSTP-Split-Exclude", read_route<&P::split_exclude>},
    Row{"X-CSTP-Split-Exclude-IP6", read_route<&P::split_exclude>},
    Row{"X-CSTP-DPD", read_seconds<&P::dpd>},
    Row{"X-CSTP-Keepalive", read_seconds<&P::keepalive>},
    Row{"X-CSTP-Rekey-Time", read_seconds<&P::rekey_time>},
    Row{"X-CSTP-Rekey-Method", read_rekey_method},
    Row{"X-CSTP-Idle-Timeout", read_limit<&P::idle_timeout>},
    Row{"X-CSTP-Session-Timeout", read_limit<&P::session_timeout>},
    // Written after the total by ocserv, and what counts on a reconnect.
    Row{"X-CSTP-Session-Timeout-Remaining", read_limit<&P::session_timeout>},
    Row{"X-CSTP-Disconnected-Timeout", read_limit<&P::disconnected_timeout>},
    Row{"X-CSTP-Hostname", read_hostname},
    Row{"X-CSTP-Banner", read_banner},
    Row{"X-CSTP-Content-Encoding", read_encoding},
    Row{"X-DTLS-Content-Encoding", read_encoding},
    Row{"X-DTLS-Port", read_dtls_port},
    Row{"X-DTLS-App-ID", read_app_id},
    Row{"X-DTLS-CipherSuite", read_dtls_suite},
    Row{"X-DTLS-DPD", read_dtls_seconds<&DtlsParams::dpd>},
    Row{"X-DTLS-Keepalive", read_dtls_seconds<&DtlsParams::keepalive>},
    Row{kVersionHeader, read_culvert_version},
    Row{kFeaturesHeader, read_features},
    Row{kAttachHeader, read_attach_mode},
};

Draft read_headers(const std::vector<HttpHeader>& headers) {
  Draft draft;
  for (const HttpHeader& header : headers) {
    const auto row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& candidate) {
      return iequals(candidate.name, header.name);
    });
    if (row == kRows.end() || row->read(draft, header.value)) continue;
    if (draft.params.ignored.size() < kMaxIgnored)
      draft.params.ignored.push_back(
          escape_for_display(header.name + ": " + header.value.substr(0, 128)));
  }
  return draft;
}

Error status_error(const HttpResponse& response) {
  const auto reason = response.find("X-Reason");
  std::string text = std::to_string(response.status);
  text +=
      " " + escape_for_display(std::string_view(reason.value_or(response.reason)).substr(0, 256));
  if (response.status == 401)
    return fail(ErrorCode::kAuthRefused, "the server refused the session: " + text);
  if (response.status == 503)
    return fail(ErrorCode::kNetwork, "the server cannot serve us now: " + text);
  return fail(ErrorCode::kFailure, "the server refused the tunnel: " + text);
}

Status put_together(Draft& draft) {
  TunnelParams& params = draft.params;
  if (draft.ipv4) params.ipv4 = Prefix{*draft.ipv4, draft.ipv4_length.value_or(32)};
  if (!params.ipv6 && draft.old_ipv6)
    params.ipv6 = Prefix{*draft.old_ipv6, draft.old_ipv6_length.value_or(128)};
  if (!params.ipv4 && !params.ipv6)
    return fail(ErrorCode::kFailure, "the server assigned no address");
  params.mtu = Mtu(std::max(draft.cstp_mtu, draft.dtls_mtu));
  if (params.mtu.value() == 0)
    return fail(ErrorCode::kFailure, "the server gave no usable MTU", {},
                "at least " + std::to_string(kMinMtu) + " is needed");
  if (draft.compressed)
    return fail(ErrorCode::kFailure, "the server switched compression on, which was not offered");
  if (draft.psk && draft.have_app_id && draft.dtls.port != 0) params.dtls = draft.dtls;
  if (!draft.culvert) params.features = {};
  if (!allows(params.features, params.attach)) params.attach = AttachMode::kNone;
  return {};
}

// ---- writing ----

bool gets_ipv4(const TunnelParams& params, const ConnectOffer& offer) {
  return params.ipv4 && offer.want_ipv4;
}
bool gets_ipv6(const TunnelParams& params, const ConnectOffer& offer) {
  return params.ipv6 && offer.want_ipv6 && offer.full_ipv6;
}

class Writer {
 public:
  Writer(const TunnelParams& params, const ConnectOffer& offer)
      : params_(params),
        ipv4_(gets_ipv4(params, offer)),
        ipv6_(gets_ipv6(params, offer)),
        dtls_(params.dtls && offer.psk != PskPosition::kNone),
        rekeys_(params.rekey_time.count() > 0 && offer.psk != PskPosition::kLast),
        features_(common_to(params.features, offer.features)) {}

  std::vector<HttpHeader> write() {
    add("X-CSTP-Version", "1");
    addresses();
    names();
    routes("X-CSTP-Split-Include", params_.split_include);
    routes("X-CSTP-Split-Exclude", params_.split_exclude);
    timers();
    if (dtls_) dtls();
    if (features_.any()) culvert();
    if (params_.base_mtu != 0) add("X-CSTP-Base-MTU", std::to_string(params_.base_mtu));
    add("X-CSTP-MTU", std::to_string(params_.mtu.value()));
    if (!params_.banner.empty())
      add("X-CSTP-Banner", percent_encode(std::string_view(params_.banner).substr(0, kMaxBanner)));
    return std::move(headers_);
  }

 private:
  void add(std::string_view name, std::string value) {
    headers_.push_back({std::string(name), std::move(value)});
  }
  [[nodiscard]] bool serves(const IpAddress& address) const {
    return address.is_v4() ? ipv4_ : ipv6_;
  }

  void addresses() {
    if (!params_.hostname.empty()) add("X-CSTP-Hostname", params_.hostname);
    if (ipv4_) {
      add("X-CSTP-Address", params_.ipv4->address.to_string());
      add("X-CSTP-Netmask", params_.ipv4->netmask());
    }
    if (ipv6_) add("X-CSTP-Address-IP6", params_.ipv6->to_string());
  }

  void names() {
    for (const IpAddress& server : params_.dns)
      if (serves(server)) add("X-CSTP-DNS", server.to_string());
    if (!params_.default_domain.empty()) add("X-CSTP-Default-Domain", params_.default_domain);
    for (const std::string& domain : params_.split_dns)
      add("X-CSTP-Split-DNS", domain);
  }

  void routes(std::string_view name, const std::vector<Prefix>& list) {
    for (const Prefix& route : list) {
      if (!serves(route.address)) continue;
      if (route.address.is_v4()) {
        add(name, route.address.to_string() + "/" + route.netmask());
      } else {
        add(std::string(name) + "-IP6", route.to_string());
      }
    }
  }

  void seconds(std::string_view name, std::chrono::seconds value) {
    if (value.count() > 0) add(name, std::to_string(value.count()));
  }
  void limit(std::string_view name, const std::optional<std::chrono::seconds>& value) {
    add(name, value ? std::to_string(value->count()) : "none");
  }

  void timers() {
    seconds("X-CSTP-DPD", params_.dpd);
    seconds("X-CSTP-Keepalive", params_.keepalive);
    if (rekeys_) {
      seconds("X-CSTP-Rekey-Time", params_.rekey_time);
      add("X-CSTP-Rekey-Method", "new-tunnel");
    }
    limit("X-CSTP-Idle-Timeout", params_.idle_timeout);
    limit("X-CSTP-Session-Timeout", params_.session_timeout);
    limit("X-CSTP-Disconnected-Timeout", params_.disconnected_timeout);
  }

  void dtls() {
    add("X-DTLS-Port", std::to_string(params_.dtls->port));
    add("X-DTLS-App-ID", to_hex(params_.dtls->app_id));
    add("X-DTLS-CipherSuite", std::string(kPskNegotiate));
    seconds("X-DTLS-DPD", params_.dtls->dpd);
    seconds("X-DTLS-Keepalive", params_.dtls->keepalive);
  }

  void culvert() {
    add(kVersionHeader, std::to_string(kCulvertVersion));
    add(kFeaturesHeader, write_features(features_));
    if (params_.attach != AttachMode::kNone && allows(features_, params_.attach))
      add(kAttachHeader, std::string(name_of(params_.attach)));
  }

  const TunnelParams& params_;
  const bool ipv4_, ipv6_, dtls_, rekeys_;
  const CulvertFeatures features_;
  std::vector<HttpHeader> headers_;
};

}  // namespace

Result<TunnelParams> parse_connect_response(const HttpResponse& response) {
  if (response.status != 200) return status_error(response);
  Draft draft = read_headers(response.headers);
  if (auto status = put_together(draft); !status) return status.error();
  return std::move(draft.params);
}

std::vector<HttpHeader> write_connect_response(const TunnelParams& params,
                                               const ConnectOffer& offer) {
  return Writer(params, offer).write();
}

bool grants_address(const TunnelParams& params, const ConnectOffer& offer) {
  return gets_ipv4(params, offer) || gets_ipv6(params, offer);
}

}  // namespace culvert::wire
