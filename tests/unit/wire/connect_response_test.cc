#include <gtest/gtest.h>

#include <algorithm>

#include "common/wire/connect_headers.h"

namespace culvert::wire {
namespace {

using std::chrono::seconds;

Prefix prefix(std::string_view text) {
  return Prefix::parse(text).value();
}
IpAddress address(std::string_view text) {
  return IpAddress::parse(text).value();
}

// As ocserv 1.1.6 answers.
std::vector<HttpHeader> ocserv_1_1_6() {
  return {
      {"X-CSTP-Version", "1"},
      {"X-CSTP-Server-Name", "ocserv 1.1.6"},
      {"X-CSTP-Hostname", "laptop"},
      {"X-CSTP-DPD", "90"},
      {"X-CSTP-Default-Domain", "example.com"},
      {"X-CSTP-Address", "10.7.0.176"},
      {"X-CSTP-Netmask", "255.255.255.0"},
      {"X-CSTP-Address-IP6", "fd00:7::b0/64"},
      {"X-CSTP-DNS", "10.7.0.1"},
      {"X-CSTP-DNS", "fd00:7::1"},
      {"X-CSTP-NBNS", "10.7.0.2"},
      {"X-CSTP-Split-DNS", "corp.example.com"},
      {"X-CSTP-Split-Include", "10.50.0.0/255.255.0.0"},
      {"X-CSTP-Split-Include-IP6", "fd50::/32"},
      {"X-CSTP-Tunnel-All-DNS", "false"},
      {"X-CSTP-Client-Bypass-Protocol", "false"},
      {"X-CSTP-Split-Exclude", "10.50.9.0/255.255.255.0"},
      {"X-CSTP-Keepalive", "32400"},
      {"X-CSTP-Idle-Timeout", "none"},
      {"X-CSTP-Smartcard-Removal-Disconnect", "true"},
      {"X-CSTP-Rekey-Time", "172797"},
      {"X-CSTP-Rekey-Method", "new-tunnel"},
      {"X-CSTP-Session-Timeout", "0"},
      {"X-CSTP-Session-Timeout-Remaining", "0"},
      {"X-CSTP-Disconnected-Timeout", "none"},
      {"X-CSTP-Keep", "true"},
      {"X-CSTP-TCP-Keepalive", "true"},
      {"X-CSTP-License", "accept"},
      {"X-DTLS-DPD", "90"},
      {"X-DTLS-Port", "4443"},
      {"X-DTLS-Rekey-Time", "172807"},
      {"X-DTLS-Keepalive", "32400"},
      {"X-DTLS-App-ID", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"},
      {"X-DTLS-CipherSuite", "PSK-NEGOTIATE"},
      {"X-CSTP-Base-MTU", "1500"},
      {"X-CSTP-MTU", "1434"},
      {"X-CSTP-Banner", "Welcome%0Ato 100%"},
  };
}

HttpResponse connected(std::vector<HttpHeader> headers) {
  return {200, "CONNECTED", std::move(headers), {}, true, true};
}

// The least that is accepted, and `more`.
Result<TunnelParams> parse(std::vector<HttpHeader> more) {
  std::vector<HttpHeader> headers = {{"X-CSTP-Address", "10.7.0.2"}, {"X-CSTP-MTU", "1400"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return parse_connect_response(connected(headers));
}

TEST(ConnectResponse, ReadsOcserv116) {
  const auto params = parse_connect_response(connected(ocserv_1_1_6()));
  ASSERT_TRUE(params) << params.error().message();
  EXPECT_EQ(params->ipv4, prefix("10.7.0.176/24"));
  EXPECT_EQ(params->ipv6, prefix("fd00:7::b0/64"));
  EXPECT_EQ(params->mtu.value(), 1434);
  EXPECT_EQ(params->base_mtu, 1500);
  EXPECT_EQ(params->dns, (std::vector{address("10.7.0.1"), address("fd00:7::1")}));
  EXPECT_EQ(params->split_dns, std::vector<std::string>{"corp.example.com"});
  EXPECT_EQ(params->default_domain, "example.com");
  EXPECT_EQ(params->split_include, (std::vector{prefix("10.50.0.0/16"), prefix("fd50::/32")}));
  EXPECT_EQ(params->split_exclude, std::vector{prefix("10.50.9.0/24")});
  EXPECT_EQ(params->dpd, seconds(90));
  EXPECT_EQ(params->keepalive, seconds(32400));
  EXPECT_EQ(params->rekey_time, seconds(172797));
  EXPECT_EQ(params->rekey_method, RekeyMethod::kNewTunnel);
  EXPECT_FALSE(params->idle_timeout);
  EXPECT_FALSE(params->session_timeout);
  EXPECT_FALSE(params->disconnected_timeout);
  EXPECT_EQ(params->banner, "Welcome\nto 100%");
  EXPECT_EQ(params->hostname, "laptop");
  ASSERT_TRUE(params->dtls);
  EXPECT_EQ(params->dtls->port, 4443);
  EXPECT_EQ(params->dtls->app_id[1], std::byte{0x11});
  EXPECT_EQ(params->dtls->dpd, seconds(90));
  EXPECT_EQ(params->dtls->keepalive, seconds(32400));
  EXPECT_TRUE(params->ignored.empty());
}

TEST(ConnectResponse, TakesNamesInAnyCase) {
  const auto params = parse_connect_response(
      connected({{"x-cstp-address", "10.7.0.2"}, {"X-Cstp-Mtu", "1400"}, {"X-CSTP-dpd", "5"}}));
  ASSERT_TRUE(params);
  EXPECT_EQ(params->dpd, seconds(5));
}

TEST(ConnectResponse, ReadsOldStyleIpv6) {
  const auto params = parse_connect_response(connected({{"X-CSTP-Address", "10.7.0.2"},
                                                        {"X-CSTP-Netmask", "255.255.0.0"},
                                                        {"X-CSTP-Address", "fd00:7::2"},
                                                        {"X-CSTP-Netmask", "fd00:7::2/64"},
                                                        {"X-CSTP-MTU", "1400"}}));
  ASSERT_TRUE(params);
  EXPECT_EQ(params->ipv4, prefix("10.7.0.2/16"));
  EXPECT_EQ(params->ipv6, prefix("fd00:7::2/64"));
}

TEST(ConnectResponse, Ipv6AloneIsEnough) {
  const auto params = parse_connect_response(
      connected({{"X-CSTP-Address-IP6", "fd00:7::2/128"}, {"X-CSTP-MTU", "1400"}}));
  ASSERT_TRUE(params);
  EXPECT_FALSE(params->ipv4);
  EXPECT_EQ(params->ipv6, prefix("fd00:7::2/128"));
}

TEST(ConnectResponse, NeedsAnAddressAndAnMtu) {
  EXPECT_FALSE(parse_connect_response(connected({{"X-CSTP-MTU", "1400"}})));
  EXPECT_FALSE(parse_connect_response(connected({{"X-CSTP-Address", "10.7.0.2"}})));
  EXPECT_FALSE(parse_connect_response(connected({})));
}

TEST(ConnectResponse, RefusesAddressesNobodyCanHave) {
  for (const char* bad : {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1",
                          "ff02::1", "10.7.0", "host", ""})
    EXPECT_FALSE(
        parse_connect_response(connected({{"X-CSTP-Address", bad}, {"X-CSTP-MTU", "1400"}})))
        << bad;
  for (const char* bad : {"fd00::2/129", "fd00::2/0", "10.7.0.2/24", "::1/128", "fd00::2/x"})
    EXPECT_FALSE(
        parse_connect_response(connected({{"X-CSTP-Address-IP6", bad}, {"X-CSTP-MTU", "1400"}})))
        << bad;
}

TEST(ConnectResponse, AMaskWithHolesIsLeftOut) {
  const auto params = parse({{"X-CSTP-Netmask", "255.0.255.0"}});
  EXPECT_EQ(params->ipv4, prefix("10.7.0.2/32"));
  EXPECT_EQ(params->ignored, std::vector<std::string>{"X-CSTP-Netmask: 255.0.255.0"});
  EXPECT_EQ(parse({{"X-CSTP-Netmask", "0.0.0.0"}})->ipv4, prefix("10.7.0.2/32"));
}

TEST(ConnectResponse, BoundsTheMtu) {
  struct {
    const char* text;
    uint16_t mtu;  // 0: refused
  } const cases[] = {{"0", 0},
                     {"1", 0},
                     {"575", 0},
                     {"576", 576},
                     {"1434", 1434},
                     {"16376", 16376},
                     {"16377", 16376},
                     {"65535", 16376},
                     {"65536", 16376},
                     {"2147483648", 16376},
                     {"4294967295", 16376},
                     {"-1", 0},
                     {"", 0},
                     {"1400x", 0},
                     {"99999999999999999999999", 16376}};
  for (const auto& c : cases) {
    const auto params =
        parse_connect_response(connected({{"X-CSTP-Address", "10.7.0.2"}, {"X-CSTP-MTU", c.text}}));
    ASSERT_EQ(params.has_value(), c.mtu != 0) << c.text;
    EXPECT_EQ(params ? params->mtu.value() : 0, c.mtu) << c.text;
  }
}

TEST(ConnectResponse, TakesTheLargerOfTheTwoMtus) {
  EXPECT_EQ(parse({{"X-DTLS-MTU", "1420"}})->mtu.value(), 1420);
  EXPECT_EQ(parse({{"X-DTLS-MTU", "1300"}})->mtu.value(), 1400);
}

TEST(ConnectResponse, BoundsTimers) {
  constexpr int64_t kTenYears = 10LL * 365 * 86400;
  struct {
    const char* text;
    int64_t value;
  } const cases[] = {{"0", 0},
                     {"1", 1},
                     {"90", 90},
                     {"65535", 65535},
                     {"4294967295", kTenYears},
                     {"99999999999999999999", kTenYears},
                     {"-1", 0},
                     {"none", 0},
                     {"", 0}};
  for (const auto& c : cases) {
    EXPECT_EQ(parse({{"X-CSTP-DPD", c.text}})->dpd, seconds(c.value)) << c.text;
    EXPECT_EQ(parse({{"X-CSTP-Keepalive", c.text}})->keepalive, seconds(c.value)) << c.text;
    EXPECT_EQ(parse({{"X-CSTP-Rekey-Time", c.text}})->rekey_time, seconds(c.value)) << c.text;
  }
  EXPECT_EQ(parse({{"X-CSTP-Idle-Timeout", "600"}})->idle_timeout, seconds(600));
  EXPECT_FALSE(parse({{"X-CSTP-Idle-Timeout", "none"}})->idle_timeout);
}

TEST(ConnectResponse, RemainingSessionTimeCounts) {
  const auto params =
      parse({{"X-CSTP-Session-Timeout", "3600"}, {"X-CSTP-Session-Timeout-Remaining", "1800"}});
  EXPECT_EQ(params->session_timeout, seconds(1800));
}

TEST(ConnectResponse, ReadsRoutesInEverySpelling) {
  const auto params = parse({{"X-CSTP-Split-Include", "10.0.0.1/255.0.0.0"},
                             {"X-CSTP-Split-Include", "192.168.7.9/24"},
                             {"X-CSTP-Split-Include", "192.0.2.1"},
                             {"X-CSTP-Split-Include", "fd50::1/32"},
                             {"X-CSTP-Split-Include", "vpn.example.com"},
                             {"X-CSTP-Split-Include", "10.0.0.0/33"},
                             {"X-CSTP-Split-Exclude-IP6", "fd51::/48"}});
  EXPECT_EQ(params->split_include, (std::vector{prefix("10.0.0.0/8"), prefix("192.168.7.0/24"),
                                                prefix("192.0.2.1/32"), prefix("fd50::/32")}));
  EXPECT_EQ(params->split_exclude, std::vector{prefix("fd51::/48")});
  EXPECT_EQ(params->ignored, (std::vector<std::string>{"X-CSTP-Split-Include: vpn.example.com",
                                                       "X-CSTP-Split-Include: 10.0.0.0/33"}));
}

TEST(ConnectResponse, NormalisesDomains) {
  EXPECT_EQ(parse({{"X-CSTP-Default-Domain", "a.example, b.example;c.example"}})->default_domain,
            "a.example b.example c.example");
  const auto evil =
      parse({{"X-CSTP-Default-Domain", "good.example $(reboot)"}, {"X-CSTP-Split-DNS", "a;b"}});
  EXPECT_EQ(evil->default_domain, "good.example");
  EXPECT_TRUE(evil->split_dns.empty());
  EXPECT_EQ(evil->ignored.size(), 2U);
}

TEST(ConnectResponse, RefusesCompression) {
  for (const char* name : {"X-CSTP-Content-Encoding", "X-DTLS-Content-Encoding"})
    EXPECT_FALSE(parse({{name, "oc-lz4"}})) << name;
}

TEST(ConnectResponse, BadDtlsParametersMeanNoDtls) {
  const std::string id(64, '5');
  const auto with = [&](const std::string& port, const std::string& app_id,
                        const std::string& suite) {
    return parse({{"X-DTLS-Port", port}, {"X-DTLS-App-ID", app_id}, {"X-DTLS-CipherSuite", suite}})
        ->dtls.has_value();
  };
  EXPECT_TRUE(with("4443", id, "PSK-NEGOTIATE"));
  EXPECT_FALSE(with("0", id, "PSK-NEGOTIATE"));
  EXPECT_FALSE(with("65536", id, "PSK-NEGOTIATE"));
  EXPECT_FALSE(with("4443", "zz", "PSK-NEGOTIATE"));
  EXPECT_FALSE(with("4443", id + "55", "PSK-NEGOTIATE"));
  EXPECT_FALSE(with("4443", id, "AES128-SHA"));
}

TEST(ConnectResponse, EscapesWhatItLeavesOut) {
  const auto params = parse({{"X-CSTP-DPD", "1\x1b[2J"}});
  EXPECT_EQ(params->ignored, std::vector<std::string>{"X-CSTP-DPD: 1\\x1b[2J"});
}

TEST(ConnectResponse, TellsRefusalsApart) {
  struct {
    int status;
    ErrorCode code;
  } const cases[] = {{401, ErrorCode::kAuthRefused},
                     {503, ErrorCode::kNetwork},
                     {404, ErrorCode::kFailure},
                     {302, ErrorCode::kFailure}};
  for (const auto& c : cases) {
    const auto params =
        parse_connect_response({c.status, "Words", {{"X-Reason", "because\x07"}}, {}, true, false});
    ASSERT_FALSE(params);
    EXPECT_EQ(params.error().code, c.code);
    EXPECT_NE(params.error().what.find("because\\x07"), std::string::npos) << params.error().what;
  }
}

// ---- the server's side ----

TunnelParams full_params() {
  TunnelParams params;
  params.ipv4 = prefix("10.99.0.7/24");
  params.ipv6 = prefix("fd99::7/64");
  params.mtu = Mtu(1434);
  params.base_mtu = 1500;
  params.dns = {address("10.20.0.53"), address("fd20::53")};
  params.default_domain = "example.com";
  params.split_dns = {"corp.example.com"};
  params.split_include = {prefix("10.20.0.0/16"), prefix("fd20::/48")};
  params.split_exclude = {prefix("10.20.9.0/24")};
  params.dpd = seconds(90);
  params.keepalive = seconds(32400);
  params.rekey_time = seconds(86400);
  params.rekey_method = RekeyMethod::kNewTunnel;
  params.idle_timeout = seconds(3600);
  params.banner = "100% of\nthe office";
  params.dtls = DtlsParams{443, {}, seconds(90), seconds(32400)};
  return params;
}

ConnectOffer full_offer() {
  ConnectOffer offer;
  offer.full_ipv6 = true;
  offer.psk = PskPosition::kFirst;
  return offer;
}

bool mentions(const std::vector<HttpHeader>& headers, std::string_view part) {
  return std::any_of(headers.begin(), headers.end(), [&](const HttpHeader& header) {
    return header.name.find(part) != std::string::npos ||
           header.value.find(part) != std::string::npos;
  });
}

TEST(ConnectAnswer, SaysEverythingTheClientCanTake) {
  const std::vector<HttpHeader> expected = {
      {"X-CSTP-Version", "1"},
      {"X-CSTP-Address", "10.99.0.7"},
      {"X-CSTP-Netmask", "255.255.255.0"},
      {"X-CSTP-Address-IP6", "fd99::7/64"},
      {"X-CSTP-DNS", "10.20.0.53"},
      {"X-CSTP-DNS", "fd20::53"},
      {"X-CSTP-Default-Domain", "example.com"},
      {"X-CSTP-Split-DNS", "corp.example.com"},
      {"X-CSTP-Split-Include", "10.20.0.0/255.255.0.0"},
      {"X-CSTP-Split-Include-IP6", "fd20::/48"},
      {"X-CSTP-Split-Exclude", "10.20.9.0/255.255.255.0"},
      {"X-CSTP-DPD", "90"},
      {"X-CSTP-Keepalive", "32400"},
      {"X-CSTP-Rekey-Time", "86400"},
      {"X-CSTP-Rekey-Method", "new-tunnel"},
      {"X-CSTP-Idle-Timeout", "3600"},
      {"X-CSTP-Session-Timeout", "none"},
      {"X-CSTP-Disconnected-Timeout", "none"},
      {"X-DTLS-Port", "443"},
      {"X-DTLS-App-ID", std::string(64, '0')},
      {"X-DTLS-CipherSuite", "PSK-NEGOTIATE"},
      {"X-DTLS-DPD", "90"},
      {"X-DTLS-Keepalive", "32400"},
      {"X-CSTP-Base-MTU", "1500"},
      {"X-CSTP-MTU", "1434"},
      {"X-CSTP-Banner", "100%25 of%0athe office"},
  };
  EXPECT_EQ(write_connect_response(full_params(), full_offer()), expected);
}

TEST(ConnectAnswer, IsReadBackTheSame) {
  const TunnelParams params = full_params();
  const auto read = parse_connect_response(connected(write_connect_response(params, full_offer())));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->ipv4, params.ipv4);
  EXPECT_EQ(read->ipv6, params.ipv6);
  EXPECT_EQ(read->mtu, params.mtu);
  EXPECT_EQ(read->split_include, params.split_include);
  EXPECT_EQ(read->idle_timeout, params.idle_timeout);
  EXPECT_EQ(read->banner, params.banner);
  EXPECT_EQ(read->dtls.has_value(), true);
  EXPECT_TRUE(read->ignored.empty());
}

TEST(ConnectAnswer, HoldsIpv6BackUnlessWantedInFull) {
  for (const bool wanted : {true, false}) {
    ConnectOffer offer = full_offer();
    (wanted ? offer.full_ipv6 : offer.want_ipv6) = false;
    const auto headers = write_connect_response(full_params(), offer);
    EXPECT_FALSE(mentions(headers, "fd")) << wanted;
    EXPECT_FALSE(mentions(headers, "IP6"));
    EXPECT_TRUE(mentions(headers, "10.99.0.7"));
  }
}

TEST(ConnectAnswer, HoldsIpv4BackUnlessWanted) {
  ConnectOffer offer = full_offer();
  offer.want_ipv4 = false;
  const auto headers = write_connect_response(full_params(), offer);
  EXPECT_FALSE(mentions(headers, "10."));
  EXPECT_FALSE(mentions(headers, "Netmask"));
  EXPECT_TRUE(mentions(headers, "fd99::7/64"));
}

TEST(ConnectAnswer, SaysNothingOfDtlsUnlessServedAndOffered) {
  TunnelParams params = full_params();
  ConnectOffer offer = full_offer();
  offer.psk = PskPosition::kNone;
  EXPECT_FALSE(mentions(write_connect_response(params, offer), "X-DTLS"));
  params.dtls.reset();
  EXPECT_FALSE(mentions(write_connect_response(params, full_offer()), "X-DTLS"));
}

TEST(ConnectAnswer, GivesNoRekeyTimeToBuildsThatWouldLoseDtls) {
  ConnectOffer offer = full_offer();
  offer.psk = PskPosition::kLast;
  EXPECT_FALSE(mentions(write_connect_response(full_params(), offer), "Rekey"));
}

TEST(ConnectAnswer, NeverAnnouncesWhatBreaksStockClients) {
  TunnelParams params = full_params();
  params.rekey_method = RekeyMethod::kSsl;
  const auto headers = write_connect_response(params, full_offer());
  for (const char* part : {"Encoding", "ssl", "X-DTLS-Rekey", "X-DTLS-MTU"})
    EXPECT_FALSE(mentions(headers, part)) << part;
}

TEST(ConnectAnswer, SaysOfTheExtensionOnlyWhatWasOffered) {
  TunnelParams params = full_params();
  params.features = {.superpacket = true, .packed = true, .roam = true};
  params.attach = AttachMode::kRoam;
  ConnectOffer offer = full_offer();
  EXPECT_FALSE(mentions(write_connect_response(params, offer), "Culvert"));
  offer.features = {.superpacket = true, .cid = true, .rekey = true};
  const auto read = parse_connect_response(connected(write_connect_response(params, offer)));
  EXPECT_EQ(write_features(read->features), "superpacket");
  EXPECT_EQ(read->attach, AttachMode::kNone);
  offer.features.roam = true;
  const auto again = parse_connect_response(connected(write_connect_response(params, offer)));
  EXPECT_EQ(write_features(again->features), "superpacket roam");
  EXPECT_EQ(again->attach, AttachMode::kRoam);
  params.features = {};
  EXPECT_FALSE(mentions(write_connect_response(params, offer), "Culvert"));
}

TEST(ConnectAnswer, MeansNothingByFeaturesWithoutAVersion) {
  TunnelParams params = full_params();
  params.features = {.superpacket = true};
  ConnectOffer offer = full_offer();
  offer.features = params.features;
  auto headers = write_connect_response(params, offer);
  std::erase_if(headers, [](const HttpHeader& h) { return h.name == "X-Culvert-Version"; });
  EXPECT_FALSE(parse_connect_response(connected(headers))->features.any());
}

TEST(ConnectAnswer, KnowsWhenNothingFits) {
  TunnelParams params = full_params();
  ConnectOffer offer = full_offer();
  EXPECT_TRUE(grants_address(params, offer));
  offer.want_ipv4 = false;
  EXPECT_TRUE(grants_address(params, offer));
  offer.full_ipv6 = false;
  EXPECT_FALSE(grants_address(params, offer));
  params.ipv4.reset();
  EXPECT_FALSE(grants_address(params, ConnectOffer{}));
}

TEST(ConnectAnswer, StartsAsStockClientsExpect) {
  const auto text = serialize(connected(write_connect_response(full_params(), full_offer())));
  ASSERT_TRUE(text);
  EXPECT_TRUE(text->starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(text->ends_with("\r\n\r\n"));
  EXPECT_EQ(text->find("Content-Length"), std::string::npos);
}

}  // namespace
}  // namespace culvert::wire
