#include "server/config.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/tls/certificate.h"

namespace culvert::server {
namespace {

using std::chrono::seconds;

// The least that is a configuration; line numbers below count on it.
constexpr const char* kMinimal = R"([listen]
address = "[::]:443"
[tls]
certificate = "server.crt"
key = "/keys/server.key"
client_ca = "ca.crt"
crl = "ca.crl"
[network]
ipv4 = "10.99.0.0/24"
[profile]
name = "vpn.example.com"
)";

Result<ServerConfig> parse(const std::string& text) {
  return parse_config(text, "/etc/culvert/culvertd.toml");
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  const auto at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

// The error of a configuration that must be refused.
Error refusal(const std::string& text) {
  const auto config = parse(text);
  EXPECT_FALSE(config) << text;
  return config ? Error{} : config.error();
}

TEST(ServerConfig, MinimalFileGetsTheDefaults) {
  const auto config = parse(kMinimal);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->file, "/etc/culvert/culvertd.toml");
  EXPECT_EQ(config->dir, "/etc/culvert");
  EXPECT_EQ(config->users_dir(), "/etc/culvert/users");
  EXPECT_EQ(config->user, "culvert");
  EXPECT_EQ(config->unknown_users, UnknownUsers::kAllow);
  EXPECT_EQ(config->listen.to_string(), "[::]:443");
  EXPECT_EQ(config->tls.min_version, TlsVersion::k12);
  EXPECT_FALSE(config->tls.accept_expired_crl);
  EXPECT_FALSE(config->tls.strength_256);
  EXPECT_FALSE(config->network.ipv6);
  EXPECT_TRUE(config->network.routes.empty());
  EXPECT_EQ(config->session.dpd, seconds(15));
  EXPECT_EQ(config->session.idle_timeout, seconds(3600));
  EXPECT_EQ(config->session.rekey_time, seconds(86400));
  EXPECT_EQ(config->session.cookie_timeout, seconds(300));
  EXPECT_EQ(config->session.max_per_user, 2u);
  EXPECT_EQ(config->profile.address, "vpn.example.com");
  EXPECT_EQ(config->log.level, log::Level::kInfo);
}

TEST(ServerConfig, PathsStartAtTheFoldersFile) {
  const auto config = parse(kMinimal);
  ASSERT_TRUE(config);
  EXPECT_EQ(config->tls.certificate, "/etc/culvert/server.crt");
  EXPECT_EQ(config->tls.key, "/keys/server.key");
  EXPECT_EQ(config->tls.crl, "/etc/culvert/ca.crl");
}

TEST(ServerConfig, EveryKeyIsTaken) {
  const auto config = parse(R"(user = "vpn"
unknown_users = "refuse"
[listen]
address = "192.0.2.1:8443"
[tls]
certificate = "a"
key = "b"
client_ca = "c"
crl = "d"
crl_expired = "warn"
min_version = "1.3"
strength = 256
[network]
ipv4 = "10.0.0.0/8"
ipv6 = "fd00:1::/64"
dns = ["10.0.0.53", "fd00:1::53"]
routes = ["10.20.0.0/16"]
[session]
dpd = "1m"
keepalive = "30s"
idle_timeout = "0s"
rekey_time = "10m"
rekey_records = 16777216
max_lifetime = "30d"
cookie_timeout = "1h"
max_per_user = 5
[identity]
user = "dn:UID"
strip_domain = true
group = "none"
[workers]
count = "auto"
[tun]
device = "vpn0"
[profile]
name = "192.0.2.1"
address = "[2001:db8::1]:8443"
[log]
level = "debug"
format = "json"
)");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->user, "vpn");
  EXPECT_EQ(config->unknown_users, UnknownUsers::kRefuse);
  EXPECT_TRUE(config->tls.accept_expired_crl);
  EXPECT_EQ(config->tls.min_version, TlsVersion::k13);
  EXPECT_TRUE(config->tls.strength_256);
  EXPECT_EQ(config->network.ipv6->to_string(), "fd00:1::/64");
  EXPECT_EQ(config->network.dns.size(), 2u);
  EXPECT_EQ(config->network.routes.size(), 1u);
  EXPECT_EQ(config->session.dpd, seconds(60));
  EXPECT_EQ(config->session.keepalive, seconds(30));
  EXPECT_EQ(config->session.idle_timeout, seconds(0));
  EXPECT_EQ(config->session.rekey_records, 16777216u);
  EXPECT_EQ(config->session.max_lifetime, std::chrono::hours(24 * 30));
  EXPECT_EQ(config->session.max_per_user, 5u);
  EXPECT_EQ(config->identity.attribute, "UID");
  EXPECT_TRUE(config->identity.strip_domain);
  EXPECT_TRUE(config->identity.group_attribute.empty());
  EXPECT_EQ(config->tun_device, "vpn0");
  EXPECT_EQ(config->profile.address, "[2001:db8::1]:8443");
  EXPECT_EQ(config->log.level, log::Level::kDebug);
  EXPECT_EQ(config->log.format, log::Format::kJson);
}

TEST(ServerConfig, UnknownKeyIsRefusedWithLineAndNearMiss) {
  const Error error = refusal(replaced(kMinimal, "client_ca", "cleint_ca"));
  // The missing one has no line and so comes behind it.
  EXPECT_EQ(error.code, ErrorCode::kUsage);
  EXPECT_NE(error.where.find("culvertd.toml:6: tls.cleint_ca"), std::string::npos) << error.where;
  EXPECT_NE(error.hint.find("client_ca"), std::string::npos) << error.hint;
}

TEST(ServerConfig, MissingCrlMustBeAcceptedInSoManyWords) {
  EXPECT_NE(refusal(replaced(kMinimal, "crl = \"ca.crl\"\n", "")).where.find("tls.crl"),
            std::string::npos);
  const auto config = parse(replaced(kMinimal, "ca.crl", "none"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_FALSE(config->tls.crl);
}

TEST(ServerConfig, WorkersAreANumberOrAutomatic) {
  const auto count = [](const std::string& value) {
    const auto config = parse(std::string(kMinimal) + "[workers]\ncount = " + value + "\n");
    EXPECT_TRUE(config) << value;
    return config ? config->workers : 99U;
  };
  EXPECT_EQ(parse(kMinimal)->workers, 0U);
  EXPECT_EQ(count("\"auto\""), 0U);
  EXPECT_EQ(count("1"), 1U);
  EXPECT_EQ(count("64"), 64U);
  EXPECT_EQ(count("\"4\""), 4U);
  for (const char* bad : {"0", "65", "-1", "1.5", "\"many\"", "\"0\"", "true", "[2]"}) {
    const Error error = refusal(std::string(kMinimal) + "[workers]\ncount = " + bad + "\n");
    EXPECT_NE(error.message().find("workers.count"), std::string::npos) << error.message();
  }
}

TEST(ServerConfig, FeaturesToComeAreRefusedAndNotIgnored) {
  const std::vector<std::string> later = {
      "[group.engineering]\nallow = [\"10.20.0.0/16 tcp 22\"]\n",
  };
  for (const std::string& text : later) {
    const Error error = refusal(kMinimal + text);
    EXPECT_NE(error.what.find("not supported yet"), std::string::npos) << error.message();
    EXPECT_FALSE(error.hint.empty());
  }
  EXPECT_NE(refusal(replaced(kMinimal, "[profile]", "forward = true\n[profile]"))
                .what.find("not supported yet"),
            std::string::npos);
}

TEST(ServerConfig, BadValuesAreRefusedAtTheirKey) {
  const struct {
    const char* what;
    const char* with;
    const char* key;
  } cases[] = {
      {"\"[::]:443\"", "\"443\"", "listen.address"},
      {"\"[::]:443\"", "\"[::]:0\"", "listen.address"},
      {"\"[::]:443\"", "\"224.0.0.1:443\"", "listen.address"},
      {"10.99.0.0/24", "10.99.0.0/31", "network.ipv4"},
      {"10.99.0.0/24", "10.99.0.1/24", "network.ipv4"},
      {"10.99.0.0/24", "0.0.0.0/0", "network.ipv4"},
      {"10.99.0.0/24", "fd99::/64", "network.ipv4"},
      {"10.99.0.0/24", "127.0.0.0/8", "network.ipv4"},
      {"ipv4 = \"10.99.0.0/24\"", "dns = []", "network.ipv4"},
      {"ipv4 = ", "routes = []\nipv4 = ", "network.routes"},
      {"ipv4 = ", "routes = [\"10.0.0.1/8\"]\nipv4 = ", "network.routes"},
      {"ipv4 = ", "dns = [\"one.one\"]\nipv4 = ", "network.dns"},
      {"\"vpn.example.com\"", "\"vpn example\"", "profile.name"},
      {"\"vpn.example.com\"", "\"a\"\naddress = \"a:0\"", "profile.address"},
      {"[profile]", "[session]\ndpd = \"0s\"\n[profile]", "session.dpd"},
      {"[profile]", "[session]\ndpd = 15\n[profile]", "session.dpd"},
      {"[profile]", "[session]\ndpd = \"1500ms\"\n[profile]", "session.dpd"},
      {"[profile]", "[session]\nmax_per_user = 0\n[profile]", "session.max_per_user"},
      {"[profile]", "[tun]\ndevice = \"a-name-that-is-too-long\"\n[profile]", "tun.device"},
      {"[profile]", "[tun]\ndevice = \"a/b\"\n[profile]", "tun.device"},
      {"[profile]", "[tun]\ndevice = \"a%s\"\n[profile]", "tun.device"},
      {"[profile]", "[log]\nlevel = \"loud\"\n[profile]", "log.level"},
      {"key = ", "min_version = \"1.1\"\nkey = ", "tls.min_version"},
      {"key = ", "strength = 192\nkey = ", "tls.strength"},
      {"[listen]", "user = \"a b\"\n[listen]", "user"},
      {"[listen]", "unknown_users = \"maybe\"\n[listen]", "unknown_users"},
      {"[profile]", "[identity]\nuser = \"mail\"\n[profile]", "identity.user"},
      {"[profile]", "[identity]\nuser = \"dn:\"\n[profile]", "identity.user"},
      {"[profile]", "[identity]\nuser = \"dn:UDI\"\n[profile]", "identity.user"},
      {"[profile]", "[identity]\nuser = \"dn:postalAddress\"\n[profile]", "identity.user"},
      {"[profile]", "[identity]\ngroup = \"dn:department\"\n[profile]", "identity.group"},
      {"[profile]", "[identity]\nstrip_domain = \"yes\"\n[profile]", "identity.strip_domain"},
  };
  for (const auto& c : cases) {
    const Error error = refusal(replaced(kMinimal, c.what, c.with));
    EXPECT_EQ(error.code, ErrorCode::kUsage);
    EXPECT_NE(error.where.find(c.key), std::string::npos) << c.with << " gave " << error.message();
  }
}

// A name that no certificate ever has would shut everybody out, and nobody would know why.
TEST(ServerConfig, AttributesThatAreNotKnownAreRefusedWithThoseThatAre) {
  const Error error =
      refusal(replaced(kMinimal, "[profile]", "[identity]\nuser = \"dn:UDI\"\n[profile]"));
  EXPECT_NE(error.hint.find("emailAddress"), std::string::npos) << error.message();
  EXPECT_NE(error.hint.find("uid"), std::string::npos) << error.message();
  for (const std::string_view name : tls::attribute_names()) {
    const auto config = parse(replaced(
        kMinimal, "[profile]", "[identity]\nuser = \"dn:" + std::string(name) + "\"\n[profile]"));
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_EQ(config->identity.attribute, name);
  }
}

TEST(ServerConfig, MissingFileSaysHowToMakeOne) {
  const auto config = load_config("/nonexistent/culvertd.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, ErrorCode::kUsage);
  EXPECT_NE(config.error().hint.find("culvertd init"), std::string::npos);
}

TEST(HostPort, TakesHostsAddressesAndPorts) {
  const struct {
    const char* text;
    const char* host;
    int port;  // 0: none
    const char* printed;
  } cases[] = {
      {"vpn.example.com", "vpn.example.com", 0, "vpn.example.com"},
      {"vpn.example.com:8443", "vpn.example.com", 8443, "vpn.example.com:8443"},
      {"vpn.example.com:443", "vpn.example.com", 443, "vpn.example.com"},
      {"192.0.2.1", "192.0.2.1", 0, "192.0.2.1"},
      {"192.0.2.1:1", "192.0.2.1", 1, "192.0.2.1:1"},
      {"2001:db8::1", "2001:db8::1", 0, "[2001:db8::1]"},
      {"[2001:db8::1]", "2001:db8::1", 0, "[2001:db8::1]"},
      {"[2001:db8::1]:8443", "2001:db8::1", 8443, "[2001:db8::1]:8443"},
  };
  for (const auto& c : cases) {
    const auto parsed = HostPort::parse(c.text);
    ASSERT_TRUE(parsed) << c.text;
    EXPECT_EQ(parsed->host, c.host);
    EXPECT_EQ(parsed->port.value_or(0), c.port);
    EXPECT_EQ(parsed->to_string(), c.printed);
  }
}

TEST(HostPort, RefusesWhatIsNeither) {
  for (const char* text :
       {"", ":", ":443", "a:", "a:0", "a:65536", "a:x", "a:1:2", "[::1", "[::1]x",
        "[::1]:", "[192.0.2.1]:1", "[]", "a b", "1.2.3.4.5", "-a", "a..b", "a/b", "a:+1"}) {
    EXPECT_FALSE(HostPort::parse(text)) << text;
  }
}

TEST(HostName, IsMadeOfLabels) {
  for (const char* good :
       {"a", "vpn", "vpn.example.com", "a-b.c_d.e", "1a", "xn--bcher-kva.example"}) {
    EXPECT_TRUE(is_host_name(good)) << good;
  }
  for (const char* bad : {"", ".", "a.", "a..b", "-a", "a-", "a b", "a\n", "192.0.2.1", "a.1"}) {
    EXPECT_FALSE(is_host_name(bad)) << bad;
  }
  EXPECT_FALSE(is_host_name(std::string(64, 'a')));
}

}  // namespace
}  // namespace culvert::server
