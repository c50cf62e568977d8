#include "client/profile.h"

#include <gtest/gtest.h>

namespace culvert::client {
namespace {

const std::string kPem = "'''\n-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n'''\n";
const std::string kTls = "[tls]\nca = " + kPem + "certificate = " + kPem + "key = " + kPem;

Result<Profile> parse(const std::string& top, const std::string& bottom = {}) {
  return parse_profile(top + kTls + bottom, "alice.toml", "alice");
}

TEST(Profile, ReadsWhatTheServerWrites) {
  const auto profile = parse(
      "name = \"vpn.example.com\"\naddress = \"192.0.2.1:4443\"\n"
      "user = \"alice\"\n");
  ASSERT_TRUE(profile) << profile.error().message();
  EXPECT_EQ(profile->tunnel, "alice");
  EXPECT_EQ(profile->server_name, "vpn.example.com");
  EXPECT_EQ(profile->host, "192.0.2.1");
  EXPECT_EQ(profile->port, 4443);
  EXPECT_EQ(profile->user, "alice");
  EXPECT_EQ(profile->url(), "https://vpn.example.com:4443/");
  EXPECT_EQ(profile->routes, RouteMode::kServer);
}

TEST(Profile, ConnectsToItsNameByDefault) {
  const auto profile = parse("name = \"vpn.example.com\"\n");
  ASSERT_TRUE(profile);
  EXPECT_EQ(profile->host, "vpn.example.com");
  EXPECT_EQ(profile->port, kDefaultPort);
}

TEST(Profile, ReadsOurOwnKeys) {
  const auto profile = parse(
      "name = \"2001:db8::1\"\nroutes = \"full\"\ndns = \"none\"\ndevice = \"vpn0\"\nmtu = 1380\n"
      "path = \"/?secret\"\n",
      "min_version = \"1.3\"\n[routing]\nfwmark = 7\ntable = 700\npriority = 99\n");
  ASSERT_TRUE(profile) << profile.error().message();
  EXPECT_EQ(profile->routes, RouteMode::kFull);
  EXPECT_FALSE(profile->use_dns);
  EXPECT_EQ(profile->device, "vpn0");
  EXPECT_EQ(profile->mtu, 1380);
  EXPECT_EQ(profile->routing.table, 700u);
  EXPECT_EQ(profile->min_version, tls::Version::k13);
  EXPECT_EQ(profile->url(), "https://[2001:db8::1]/?secret");
}

struct BadProfile {
  const char* top;
  const char* bottom;
  const char* in_message;  // what and where
};

TEST(Profile, SaysWhatIsWrongAndWhere) {
  const std::vector<BadProfile> cases = {
      {"", "", "name"},
      {"name = \"\"\n", "", "name"},
      {"name = \"a b\"\n", "", "alice.toml:1"},
      {"name = 5\n", "", "alice.toml:1"},
      {"name = \"v\"\naddress = \"v:0\"\n", "", "alice.toml:2"},
      {"name = \"v\"\naddress = \"v:70000\"\n", "", "alice.toml:2"},
      {"name = \"v\"\naddress = \"[v]:1\"\n", "", "alice.toml:2"},
      {"name = \"v\"\nroutes = \"some\"\n", "", "routes"},
      {"name = \"v\"\ndevice = \"a/b\"\n", "", "device"},
      {"name = \"v\"\nmtu = 100\n", "", "mtu"},
      {"name = \"v\"\npath = \"x\"\n", "", "path"},
      {"name = \"v\"\nnmae = \"v\"\n", "", "nmae"},
      {"name = \"v\"\n", "[routing]\ntable = 254\n", "routing.table"},
      {"name = \"v\"\n", "[routing]\npriority = 40000\n", "routing.priority"},
      {"name = \"v\"\n", "min_version = \"1.1\"\n", "min_version"},
      {"name = \"v\n", "", "alice.toml:1"},
  };
  for (const BadProfile& bad : cases) {
    const auto profile = parse(bad.top, bad.bottom);
    ASSERT_FALSE(profile) << bad.top << bad.bottom;
    EXPECT_EQ(profile.error().code, ErrorCode::kUsage);
    EXPECT_NE(profile.error().message().find(bad.in_message), std::string::npos)
        << profile.error().message();
  }
}

TEST(Profile, WantsThePemTextAndNotAFileName) {
  const auto profile =
      parse_profile("name = \"v\"\n[tls]\nca = \"ca.crt\"\n", "alice.toml", "alice");
  ASSERT_FALSE(profile);
  EXPECT_NE(profile.error().message().find("PEM"), std::string::npos);
}

TEST(Profile, UrlsNeedTheirFilesAndAreChecked) {
  for (const char* url : {"http://v", "https://", "https://v:0/", "https://v/ x", "https://v/\x01",
                          "https://v/#x", "ftp://v"}) {
    const auto profile = profile_from_url(url, {"a", "b", "c", ""});
    ASSERT_FALSE(profile) << url;
    EXPECT_EQ(profile.error().code, ErrorCode::kUsage) << url;
  }
  const auto without = profile_from_url("https://vpn.example.com/", {});
  ASSERT_FALSE(without);
  EXPECT_NE(without.error().message().find("--ca"), std::string::npos);
}

TEST(HostPort, TakesWhatPeopleWrite) {
  struct Case {
    const char* text;
    const char* host;
    uint16_t port;
  };
  for (const Case& c : std::vector<Case>{{"vpn.example.com", "vpn.example.com", 443},
                                         {"vpn.example.com:8443", "vpn.example.com", 8443},
                                         {"192.0.2.1", "192.0.2.1", 443},
                                         {"2001:db8::1", "2001:db8::1", 443},
                                         {"[2001:db8::1]", "2001:db8::1", 443},
                                         {"[2001:db8::1]:8443", "2001:db8::1", 8443}}) {
    const auto parsed = parse_host_port(c.text);
    ASSERT_TRUE(parsed) << c.text;
    EXPECT_EQ(parsed->host, c.host);
    EXPECT_EQ(parsed->port, c.port);
  }
  for (const char* bad :
       {"", ":443", "a:", "a:b", "[::1", "[::1]x:4", "[192.0.2.1]:443", "-a", "a b", "a:1:2"})
    EXPECT_FALSE(parse_host_port(bad)) << bad;
}

}  // namespace
}  // namespace culvert::client
