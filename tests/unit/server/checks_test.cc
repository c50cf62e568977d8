// What `culvertd check` says, case by case. The parts that look at this machine (port, TUN, kernel
// settings) are only looked at where a test can arrange them.
#include "server/checks.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/file.h"
#include "common/base/unique_fd.h"
#include "common/tls/issue.h"
#include "server/pki_store.h"
#include "server/service_user.h"
#include "tests/unit/server/temporary_dir.h"

namespace culvert::server {
namespace {

using std::chrono::days;
using std::chrono::hours;

Prefix net(const char* text) {
  return Prefix::parse(text).value();
}

Grade worst(const Findings& findings) {
  Grade out = Grade::kGood;
  for (const Finding& finding : findings)
    out = std::max(out, finding.grade);
  return out;
}

// All texts and hints, to search in.
std::string all_of(const Findings& findings) {
  std::string out;
  for (const Finding& f : findings)
    out += f.subject + ": " + f.text + " -> " + f.hint + "\n";
  return out;
}

class CertificateChecks : public testing::Test {
 protected:
  void SetUp() override {
    ServerNames names;
    names.common_name = "vpn.example.com";
    names.add("vpn.example.com");
    make(names);
    config_.profile = {"vpn.example.com", "vpn.example.com"};
    config_.tls.certificate = dir_ / "server.crt";
    config_.tls.key = dir_ / "server.key";
    config_.tls.client_ca = dir_ / "ca.crt";
    config_.tls.crl = dir_ / "ca.crl";
  }
  void make(const ServerNames& names) {
    auto pki = make_pki(names, made_);
    ASSERT_TRUE(pki) << pki.error().message();
    ASSERT_TRUE(replace_file(dir_ / "ca.crt", pki->ca_certificate));
    ASSERT_TRUE(replace_file(dir_ / "ca.key", as_text(pki->ca_key.bytes())));
    ASSERT_TRUE(replace_file(dir_ / "ca.crl", pki->crl));
    ASSERT_TRUE(replace_file(dir_ / "server.crt", pki->server_certificate));
    ASSERT_TRUE(replace_file(dir_ / "server.key", as_text(pki->server_key.bytes())));
  }
  void expect(WallTime now, Grade grade, const std::string& text) {
    const Findings findings = check_certificates(config_, now);
    EXPECT_EQ(worst(findings), grade) << all_of(findings);
    EXPECT_NE(all_of(findings).find(text), std::string::npos) << all_of(findings);
  }

  TemporaryDir dir_;
  ServerConfig config_;
  WallTime made_ = wall_now() - hours(2);
};

TEST_F(CertificateChecks, FreshFilesAreGood) {
  expect(wall_now(), Grade::kGood, "until");
}

TEST_F(CertificateChecks, EndIsAnnouncedAMonthAhead) {
  const WallTime end = made_ + days(kServerDays);
  expect(end - days(31), Grade::kGood, "certificate");
  expect(end - days(29), Grade::kWarning, "29 days");
  expect(end + days(1), Grade::kBad, "expired on");
  expect(made_ - days(2), Grade::kBad, "clock");
}

TEST_F(CertificateChecks, OutdatedRevocationListShutsOutUnlessSaidOtherwise) {
  const WallTime end = made_ + days(kCaDays);
  expect(end - days(20), Grade::kBad, "refused once it has expired");  // the server's ended before
  expect(end + days(1), Grade::kBad, "every client will be refused");
  config_.tls.accept_expired_crl = true;
  const Findings findings = check_certificates(config_, end + days(1));
  EXPECT_EQ(all_of(findings).find("will be refused"), std::string::npos) << all_of(findings);
}

TEST_F(CertificateChecks, MissingCrlSaysWhatToWrite) {
  ASSERT_EQ(::unlink((dir_ / "ca.crl").c_str()), 0);
  expect(wall_now(), Grade::kBad, "crl = \"none\"");
  config_.tls.crl.reset();
  expect(wall_now(), Grade::kWarning, "nobody can be shut out");
}

TEST_F(CertificateChecks, ForeignKeyIsNamedByItsFile) {
  ASSERT_TRUE(replace_file(config_.tls.key, read_file(dir_ / "ca.key").value()));
  expect(wall_now(), Grade::kBad, config_.tls.key);
}

TEST_F(CertificateChecks, NameThatClientsExpectMustBeInTheCertificate) {
  config_.profile.name = "other.example.com";
  expect(wall_now(), Grade::kBad, "not for the name other.example.com");
  config_.profile = {"vpn.example.com", "192.0.2.1:8443"};
  expect(wall_now(), Grade::kWarning, "not for 192.0.2.1");
}

TEST_F(CertificateChecks, OpenKeyFileIsAWarning) {
  ASSERT_EQ(::chmod(config_.tls.key.c_str(), 0644), 0);
  expect(wall_now(), Grade::kWarning, "chmod 0600");
}

TEST(NetworkChecks, PoolMustNotBeANetworkOfThisMachine) {
  const struct {
    const char* pool;
    const char* local;
    Grade grade;
  } cases[] = {
      {"10.99.0.0/24", "192.168.1.7/24", Grade::kGood},
      {"10.99.0.0/24", "10.99.0.77/24", Grade::kBad},
      {"10.99.0.0/24", "10.1.2.3/8", Grade::kBad},
      {"10.99.0.0/16", "10.99.7.1/24", Grade::kBad},
      {"fd99::/64", "fd99::7/64", Grade::kBad},
      {"fd99::/64", "10.99.0.77/24", Grade::kGood},
  };
  for (const auto& c : cases) {
    ServerConfig config;
    const Prefix pool = net(c.pool);
    (pool.address.is_v4() ? config.network.ipv4 : config.network.ipv6) = pool;
    const Findings findings = check_networks(config, {{"eth0", net(c.local)}});
    EXPECT_EQ(worst(findings), c.grade) << c.pool << " and " << c.local;
    if (c.grade == Grade::kBad) {
      EXPECT_NE(all_of(findings).find("eth0"), std::string::npos);
    }
  }
}

TEST(NetworkChecks, AnotherTunnelInsideThePoolIsNamed) {
  ServerConfig config;
  config.network.ipv4 = net("10.99.0.0/24");
  config.network.ipv6 = net("fd99::/64");
  const auto with = [&](const char* address, bool tunnel) {
    return check_other_tunnels(config, {{"vpn0", net(address), tunnel}});
  };
  EXPECT_TRUE(with("10.98.0.1/32", true));
  EXPECT_TRUE(with("10.0.0.1/8", true)) << "beside the pool";
  EXPECT_TRUE(with("10.99.0.7/24", false)) << "a pool may be a piece of a local network";
  for (const char* inside : {"10.99.0.1/32", "fd99::1/128"}) {
    const Status status = with(inside, true);
    ASSERT_FALSE(status) << inside;
    EXPECT_EQ(status.error().code, ErrorCode::kUsage);
    EXPECT_NE(status.error().what.find("vpn0"), std::string::npos);
  }
}

TEST(NetworkChecks, DnsServerOutsideTheRoutesIsAWarning) {
  ServerConfig config;
  config.network.ipv4 = net("10.99.0.0/24");
  config.network.dns = {IpAddress::parse("10.20.0.53").value()};
  EXPECT_EQ(worst(check_networks(config, {})), Grade::kGood) << "everything goes into the tunnel";
  config.network.routes = {net("10.99.0.0/24")};
  EXPECT_EQ(worst(check_networks(config, {})), Grade::kWarning);
  config.network.routes = {net("10.0.0.0/8")};
  EXPECT_EQ(worst(check_networks(config, {})), Grade::kGood);
}

// A socket of this kind on a port of loopback, and a configuration that wants the same port.
struct TakenPort {
  explicit TakenPort(int type) : holder(::socket(AF_INET, type | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(::bind(holder.get(), generic, length), 0);
    if (type == SOCK_STREAM) EXPECT_EQ(::listen(holder.get(), 1), 0);
    EXPECT_EQ(::getsockname(holder.get(), generic, &length), 0);
    config.listen = {IpAddress::v4(INADDR_LOOPBACK), ntohs(address.sin_port)};
  }
  UniqueFd holder;
  ServerConfig config;
};

TEST(PortChecks, PortInUseSaysWhoToAsk) {
  const TakenPort taken(SOCK_STREAM);
  const Findings findings = check_port(taken.config, false);
  EXPECT_EQ(worst(findings), Grade::kBad);
  EXPECT_NE(all_of(findings).find("ss -ltnp"), std::string::npos) << all_of(findings);
  EXPECT_EQ(worst(check_port(taken.config, true)), Grade::kGood);
}

TEST(PortChecks, TheUdpPortIsLookedAtToo) {
  TakenPort taken(SOCK_DGRAM);
  const Findings findings = check_port(taken.config, false);
  EXPECT_EQ(worst(findings), Grade::kBad);
  EXPECT_NE(all_of(findings).find("ss -lunp"), std::string::npos) << all_of(findings);
  taken.config.udp.enabled = false;
  EXPECT_EQ(worst(check_port(taken.config, false)), Grade::kGood);
}

TEST(PortChecks, AddressOfAnotherMachineIsNamedAsSuch) {
  ServerConfig config;
  config.listen = Endpoint::parse("192.0.2.77:8443").value();  // a documentation address
  EXPECT_NE(all_of(check_port(config, false)).find("does not have the address"), std::string::npos);
}

TEST(AccountChecks, MissingAccountSaysHowToMakeIt) {
  ServerConfig config;
  config.user = "no-such-user-here";
  const Findings findings = check_account(config);
  EXPECT_EQ(worst(findings), Grade::kBad);
  EXPECT_NE(all_of(findings).find("useradd --system"), std::string::npos);
}

TEST(UserChecks, EveryFileIsLookedAt) {
  const TemporaryDir dir;
  ServerConfig config;
  config.dir = dir.path();
  config.network.ipv4 = net("10.99.0.0/24");
  EXPECT_EQ(worst(check_users(config)), Grade::kGood);
  config.unknown_users = UnknownUsers::kRefuse;
  EXPECT_EQ(worst(check_users(config)), Grade::kWarning) << "nobody could log in";
  ASSERT_EQ(::mkdir(config.users_dir().c_str(), 0700), 0);
  ASSERT_TRUE(create_file(config.users_dir() + "/a.toml", "addresses = [\"10.99.0.7\"]"));
  EXPECT_EQ(worst(check_users(config)), Grade::kGood);
  ASSERT_TRUE(create_file(config.users_dir() + "/b.toml", "addresses = [\"10.99.0.7\"]"));
  EXPECT_EQ(worst(check_users(config)), Grade::kBad);
}

TEST(IdentityChecks, UsersThatNoCertificateLeadsToAreNamed) {
  const TemporaryDir dir;
  ServerConfig config;
  config.dir = dir.path();
  EXPECT_NE(all_of(check_identity(config)).find("users by common name"), std::string::npos);
  ASSERT_EQ(::mkdir(config.users_dir().c_str(), 0700), 0);
  ASSERT_TRUE(create_file(config.users_dir() + "/bob.toml", ""));
  ASSERT_TRUE(create_file(config.users_dir() + "/alice@example.com.toml", ""));
  EXPECT_EQ(worst(check_identity(config)), Grade::kGood);
  config.identity.strip_domain = true;
  const Findings found = check_identity(config);
  EXPECT_EQ(worst(found), Grade::kWarning);
  EXPECT_NE(all_of(found).find("alice@example.com.toml is nobody's"), std::string::npos);
  EXPECT_NE(all_of(found).find("rename it to alice.toml"), std::string::npos);
  EXPECT_EQ(all_of(found).find("bob"), std::string::npos);
}

TEST(Readable, FollowsOwnerGroupAndOthersAlongThePath) {
  const TemporaryDir dir;
  const std::string file = dir / "sub/file";
  ASSERT_EQ(::mkdir((dir / "sub").c_str(), 0755), 0);
  ASSERT_TRUE(create_file(file, "x"));
  const Account me{"me", ::getuid(), ::getgid()};
  const Account stranger{"stranger", 54321, 54321};
  const Account colleague{"colleague", 54321, ::getgid()};
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  const struct {
    mode_t folder, mode;
    bool mine, of_colleague, of_stranger;
  } cases[] = {
      {0755, 0600, true, false, false}, {0755, 0640, true, true, false},
      {0755, 0644, true, true, true},   {0750, 0644, true, true, false},
      {0700, 0644, true, false, false}, {0751, 0604, true, false, true},
  };
  for (const auto& c : cases) {
    ASSERT_EQ(::chmod((dir / "sub").c_str(), c.folder), 0);
    ASSERT_EQ(::chmod(file.c_str(), c.mode), 0);
    EXPECT_EQ(check_readable(me, file).has_value(), c.mine) << c.mode;
    EXPECT_EQ(check_readable(colleague, file).has_value(), c.of_colleague) << c.mode;
    EXPECT_EQ(check_readable(stranger, file).has_value(), c.of_stranger) << c.mode;
  }
  ASSERT_EQ(::chmod((dir / "sub").c_str(), 0700), 0);
  EXPECT_EQ(check_readable(stranger, file).error().where, dir / "sub") << "the first obstacle";
}

TEST(Account, IsFoundByNameOrNot) {
  const auto root = find_account("root");
  ASSERT_TRUE(root);
  ASSERT_TRUE(root->has_value());
  EXPECT_EQ((*root)->uid, 0u);
  EXPECT_FALSE(find_account("no-such-user-here")->has_value());
}

}  // namespace
}  // namespace culvert::server
