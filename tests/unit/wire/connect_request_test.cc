#include <gtest/gtest.h>

#include "common/wire/connect_headers.h"

namespace culvert::wire {
namespace {

HttpRequest connect(std::vector<HttpHeader> headers) {
  return {"CONNECT", "/CSCOSSLC/tunnel", std::move(headers), {}, true};
}

// With a cookie, so that only the given header decides.
Result<ConnectOffer> parse(const std::string& name, const std::string& value) {
  return parse_connect_request(connect({{"Cookie", "webvpn=ab"}, {name, value}}));
}

// As openconnect 9.01 sends it.
HttpRequest openconnect_9_01() {
  return connect({
      {"Host", "server:4443"},
      {"User-Agent", "Open AnyConnect VPN Agent v9.01"},
      {"Cookie", "webvpn=MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="},
      {"X-CSTP-Version", "1"},
      {"X-CSTP-Hostname", "laptop"},
      {"X-CSTP-Accept-Encoding", "oc-lz4,lzs"},
      {"X-CSTP-Base-MTU", "1500"},
      {"X-CSTP-MTU", "1390"},
      {"X-CSTP-Address-Type", "IPv6,IPv4"},
      {"X-CSTP-Full-IPv6-Capability", "true"},
      {"X-DTLS-Master-Secret", std::string(96, 'A')},
      {"X-DTLS-CipherSuite",
       "PSK-NEGOTIATE:OC-DTLS1_2-AES256-GCM:OC2-DTLS1_2-CHACHA20-POLY1305:OC-DTLS1_2-AES128-GCM:"
       "DHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA:AES256-SHA:AES128-SHA"},
      {"X-DTLS12-CipherSuite", "ECDHE-RSA-AES256-GCM-SHA384:AES256-GCM-SHA384"},
      {"X-DTLS-Accept-Encoding", "oc-lz4,lzs"},
  });
}

TEST(ConnectRequest, ReadsOpenconnect901) {
  const auto offer = parse_connect_request(openconnect_9_01());
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->cookie, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=");
  EXPECT_EQ(offer->hostname, "laptop");
  EXPECT_EQ(offer->user_agent, "Open AnyConnect VPN Agent v9.01");
  EXPECT_EQ(offer->base_mtu, 1500);
  EXPECT_EQ(offer->mtu, 1390);
  EXPECT_TRUE(offer->want_ipv4 && offer->want_ipv6 && offer->full_ipv6);
  EXPECT_EQ(offer->psk, PskPosition::kFirst);
  EXPECT_TRUE(offer->previous.empty());
  EXPECT_FALSE(offer->features.any());
}

TEST(ConnectRequest, TakesNamesInAnyCase) {
  HttpRequest request = openconnect_9_01();
  for (HttpHeader& header : request.headers)
    for (char& c : header.name)
      c = static_cast<char>(std::tolower(c));
  const auto offer = parse_connect_request(request);
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->mtu, 1390);
  EXPECT_TRUE(offer->full_ipv6);
}

TEST(ConnectRequest, RefusesToGoOnWithoutACookie) {
  for (const auto& headers :
       std::vector<std::vector<HttpHeader>>{{},
                                            {{"Cookie", "webvpncontext=ab"}},
                                            {{"Cookie", "webvpn="}},
                                            {{"Cookie", "webvpn=" + std::string(513, 'a')}}}) {
    const auto offer = parse_connect_request(connect(headers));
    ASSERT_FALSE(offer);
    EXPECT_EQ(offer.error().code, ErrorCode::kAuthRefused);
  }
}

TEST(ConnectRequest, RefusesOtherPathsAndMethods) {
  HttpRequest request = openconnect_9_01();
  request.target = "/CSCOSSLC/tunnel/";
  EXPECT_EQ(parse_connect_request(request).error().code, ErrorCode::kFailure);
  request = openconnect_9_01();
  request.method = "POST";
  EXPECT_EQ(parse_connect_request(request).error().code, ErrorCode::kFailure);
}

TEST(ConnectRequest, BoundsTheMtu) {
  struct {
    const char* text;
    std::optional<uint16_t> mtu;
  } const cases[] = {
      {"", {}},
      {"0", {}},
      {"1", {}},
      {"575", {}},
      {"576", 576},
      {"1500", 1500},
      {"65535", 65535},
      {"65536", 65535},
      {"2147483648", 65535},
      {"4294967295", 65535},
      {"18446744073709551616", 65535},
      {"-1", {}},
      {"-2147483648", {}},
      {"+1500", {}},
      {"0x5dc", {}},
      {"1500 ", {}},
      {"1500abc", {}},
      {"1e9", {}},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(parse("X-CSTP-MTU", c.text)->mtu, c.mtu) << c.text;
    EXPECT_EQ(parse("X-CSTP-Base-MTU", c.text)->base_mtu, c.mtu) << c.text;
  }
}

TEST(ConnectRequest, ReadsAddressTypes) {
  struct {
    const char* text;
    bool v4, v6;
  } const cases[] = {{"IPv6,IPv4", true, true}, {"IPv4", true, false}, {"IPv6", false, true},
                     {"ipv4", true, false},     {"", true, true},      {"nonsense", true, true},
                     {"IPv4,IPv9", true, false}};
  for (const auto& c : cases) {
    const auto offer = parse("X-CSTP-Address-Type", c.text);
    EXPECT_EQ(offer->want_ipv4, c.v4) << c.text;
    EXPECT_EQ(offer->want_ipv6, c.v6) << c.text;
  }
  const auto absent = parse_connect_request(connect({{"Cookie", "webvpn=ab"}}));
  EXPECT_TRUE(absent->want_ipv4 && absent->want_ipv6);
  EXPECT_FALSE(absent->full_ipv6);
}

TEST(ConnectRequest, TellsTheTwoOpenconnectBuildsApart) {
  struct {
    const char* text;
    PskPosition psk;
  } const cases[] = {
      {"PSK-NEGOTIATE", PskPosition::kOnly},
      {"PSK-NEGOTIATE:AES128-SHA", PskPosition::kFirst},
      {"ECDHE-ECDSA-AES256-SHA:OC-DTLS1_2-AES256-GCM:PSK-NEGOTIATE", PskPosition::kLast},
      {"A:PSK-NEGOTIATE:B", PskPosition::kMiddle},
      {"A:B", PskPosition::kNone},
      {"", PskPosition::kNone},
      {"PSK-NEGOTIATE-x", PskPosition::kNone},
      {"xPSK-NEGOTIATE", PskPosition::kNone},
      {"psk-negotiate", PskPosition::kNone},
  };
  for (const auto& c : cases)
    EXPECT_EQ(parse("X-DTLS-CipherSuite", c.text)->psk, c.psk) << c.text;
}

TEST(ConnectRequest, DropsHostNamesThatAreNone) {
  EXPECT_EQ(parse("X-CSTP-Hostname", "lap_top-1.local")->hostname, "lap_top-1.local");
  for (const std::string& name :
       {std::string("a b"), std::string("a\"b"), std::string("\xc3\xa9"), std::string(64, 'a'),
        std::string("../x"), std::string("-x"), std::string(".x")})
    EXPECT_TRUE(parse("X-CSTP-Hostname", name)->hostname.empty()) << name;
}

TEST(ConnectRequest, ReadsPreviousAddresses) {
  const auto offer = parse_connect_request(connect({{"Cookie", "webvpn=ab"},
                                                    {"X-CSTP-Address", "10.7.0.176"},
                                                    {"X-CSTP-Address", "bogus"},
                                                    {"X-CSTP-Address", "fd00:7::b0"},
                                                    {"X-CSTP-Address", "10.7.0.177"}}));
  ASSERT_EQ(offer->previous.size(), 2U);
  EXPECT_EQ(offer->previous[1].to_string(), "fd00:7::b0");
}

TEST(ConnectRequest, ReadsCulvertsOwnHeaders) {
  struct Case {
    std::string version, features;
    CulvertFeatures read;
  };
  const CulvertFeatures both{.superpacket = true, .packed = true};
  const std::string long_list = std::string(1030, 'x') + " packed";
  for (const Case& c :
       {Case{"1", "superpacket packed", both}, Case{"2", "packed  later-word superpacket ", both},
        Case{"65535", "cid roam rekey", {.cid = true, .roam = true, .rekey = true}},
        Case{"1", "", {}}, Case{"1", "Superpacket packed;roam pack", {}}, Case{"1", long_list, {}},
        Case{"1", "packed\x01", {}}, Case{"0", "packed", {}}, Case{"65536", "packed", {}},
        Case{"x", "packed", {}}, Case{"", "packed", {}}}) {
    const auto offer = parse_connect_request(connect({{"Cookie", "webvpn=ab"},
                                                      {"X-Culvert-Version", c.version},
                                                      {"X-Culvert-Features", c.features}}));
    EXPECT_EQ(write_features(offer->features), write_features(c.read))
        << c.version << ": " << c.features;
  }
  EXPECT_FALSE(parse("X-Culvert-Features", "packed")->features.any()) << "without the version";
}

TEST(ConnectRequest, ReadsAnAttachModeThatWasOfferedToo) {
  struct Case {
    std::string features, attach;
    AttachMode read;
  };
  for (const Case& c :
       {Case{"roam rekey", "rekey", AttachMode::kRekey}, Case{"roam", "roam", AttachMode::kRoam},
        Case{"roam", "rekey", AttachMode::kNone}, Case{"packed", "roam", AttachMode::kNone},
        Case{"roam rekey", "Rekey", AttachMode::kNone},
        Case{"roam rekey", "", AttachMode::kNone}}) {
    const auto offer = parse_connect_request(connect({{"Cookie", "webvpn=ab"},
                                                      {"X-Culvert-Version", "1"},
                                                      {"X-Culvert-Features", c.features},
                                                      {"X-Culvert-Attach", c.attach}}));
    EXPECT_EQ(offer->attach, c.read) << c.features << ": " << c.attach;
  }
}

TEST(ConnectRequest, WritesCulvertsOwnHeadersOnlyForAnOffer) {
  ConnectOffer offer;
  offer.cookie = "0a1b";
  for (const HttpHeader& header : write_connect_request(offer, "h").headers)
    EXPECT_EQ(header.name.find("Culvert"), std::string::npos) << header.name;
  offer.features = {.superpacket = true, .rekey = true};
  offer.attach = AttachMode::kRekey;
  const HttpRequest request = write_connect_request(offer, "h");
  EXPECT_EQ(request.find("X-Culvert-Version"), "1");
  EXPECT_EQ(request.find("X-Culvert-Features"), "superpacket rekey");
  EXPECT_EQ(request.find("X-Culvert-Attach"), "rekey");
}

TEST(ConnectRequest, WritesExactNamesInOrder) {
  ConnectOffer offer;
  offer.cookie = "0a1b";
  offer.hostname = "laptop";
  offer.base_mtu = 1500;
  offer.full_ipv6 = true;
  offer.psk = PskPosition::kOnly;
  offer.previous = {*IpAddress::parse("10.7.0.176")};
  const auto text = serialize(write_connect_request(offer, "vpn.example.com:4443"));
  ASSERT_TRUE(text);
  EXPECT_EQ(*text,
            "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n"
            "Host: vpn.example.com:4443\r\n"
            "User-Agent: Open AnyConnect VPN Agent v9.12 Culvert/" CULVERT_VERSION
            "\r\n"
            "Cookie: webvpn=0a1b\r\n"
            "X-CSTP-Version: 1\r\n"
            "X-CSTP-Hostname: laptop\r\n"
            "X-CSTP-Base-MTU: 1500\r\n"
            "X-CSTP-Address-Type: IPv6,IPv4\r\n"
            "X-CSTP-Address: 10.7.0.176\r\n"
            "X-CSTP-Full-IPv6-Capability: true\r\n"
            "X-DTLS-CipherSuite: PSK-NEGOTIATE\r\n"
            "\r\n");
}

TEST(ConnectRequest, AsksForNoDtlsAndNoCompressionUnlessTold) {
  ConnectOffer offer;
  offer.cookie = "0a1b";
  offer.want_ipv6 = false;
  const auto request = write_connect_request(offer, "h");
  for (const HttpHeader& header : request.headers) {
    EXPECT_FALSE(header.name.starts_with("X-DTLS")) << header.name;
    EXPECT_EQ(header.name.find("Encoding"), std::string::npos) << header.name;
  }
  EXPECT_EQ(request.find("X-CSTP-Address-Type"), "IPv4");
}

TEST(ConnectRequest, OurUserAgentSurvivesOcservsCut) {
  EXPECT_LE(kUserAgent.size(), 63U);
}

}  // namespace
}  // namespace culvert::wire
