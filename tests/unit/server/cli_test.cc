// The command line as a whole: words in, files and exit codes out. Runs without root's powers even
// when root runs it, so that no account is made and no file changes hands.
#include "server/cli.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/base/file.h"
#include "common/config/toml_file.h"
#include "server/config.h"
#include "server/live_views.h"
#include "server/signal_hold.h"
#include "tests/unit/server/temporary_dir.h"

namespace culvert::server {
namespace {

using Words = std::vector<std::string>;

constexpr uid_t kNobody = 65534;

struct Outcome {
  int code = 0;
  std::string out;
  Error error;
};

Outcome run(const Words& words) {
  const Invocation invocation = parse_command_line(words);
  if (!invocation.run) return {invocation.exit_code, invocation.text, {}};
  std::ostringstream out;
  const Status status = invocation.run(out);
  if (status) return {0, out.str(), {}};
  return {exit_code(status.error()), out.str(), status.error()};
}

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) return;
    ASSERT_EQ(::chown(dir_.path().c_str(), kNobody, kNobody), 0);
    ASSERT_EQ(::setegid(kNobody), 0);
    ASSERT_EQ(::seteuid(kNobody), 0);
    dropped_ = true;
  }
  void TearDown() override {
    if (!dropped_) return;
    EXPECT_EQ(::seteuid(0), 0);
    EXPECT_EQ(::setegid(0), 0);
  }
  Outcome init(Words more = {}) {
    Words words{"init", "--name", "vpn.example.com", "--dir", etc()};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  // A command on the folder that init() made, with a socket nobody listens on.
  Outcome command(Words words, bool socket = true) {
    words.insert(words.end(), {"--dir", etc()});
    if (socket) words.insert(words.end(), {"--socket", dir_ / "none.sock"});
    return run(words);
  }
  std::string etc() const { return dir_ / "etc"; }

  TemporaryDir dir_;
  bool dropped_ = false;
};

TEST(CommandLine, ErrorsAreTwoAndHelpIsZero) {
  const struct {
    Words words;
    int code;
    const char* text;
  } cases[] = {
      {{}, 2, "Subcommands"},
      {{"--help"}, 0, "Subcommands"},
      {{"--version"}, 0, "culvertd " CULVERT_VERSION},
      {{"init", "--help"}, 0, "--listen"},
      {{"inti"}, 2, "did you mean 'init'?"},
      {{"user", "lst"}, 2, "did you mean 'list'?"},
      {{"user"}, 2, "add, list, revoke"},
      {{"init"}, 2, "--name"},
      {{"init", "--name", "a", "--bogus"}, 2, "bogus"},
      {{"user", "add", "alice"}, 2, "--profile"},
      {{"user", "add", "alice", "--profile", "p", "--days", "0"}, 2, "--days"},
      {{"check", "--dir", "a", "-c", "b"}, 2, "--dir"},
      {{"--log-level", "loud", "status"}, 2, "loud"},
      {{"disconnect"}, 2, "WHO"},
  };
  for (const auto& c : cases) {
    const Outcome outcome = run(c.words);
    EXPECT_EQ(outcome.code, c.code) << testing::PrintToString(c.words);
    EXPECT_NE(outcome.out.find(c.text), std::string::npos)
        << testing::PrintToString(c.words) << " gave\n"
        << outcome.out;
  }
}

TEST(CommandLine, LoggingOptionsAreTakenAnywhere) {
  const Invocation before = parse_command_line({"--log-level", "debug", "run"});
  const Invocation after =
      parse_command_line({"run", "--log-level", "debug", "--log-format", "json"});
  EXPECT_TRUE(before.is_run);
  EXPECT_EQ(before.level, log::Level::kDebug);
  EXPECT_FALSE(before.format);
  EXPECT_EQ(after.level, log::Level::kDebug);
  EXPECT_EQ(after.format, log::Format::kJson);
}

TEST_F(Cli, InitMakesEverythingPrivately) {
  const Outcome outcome = init({"--listen", "192.0.2.1:8443"});
  ASSERT_EQ(outcome.code, 0) << outcome.error.message();
  for (const char* name :
       {"ca.crt", "ca.key", "ca.crl", "server.crt", "server.key", "culvertd.toml"}) {
    struct stat info {};
    ASSERT_EQ(::stat((etc() + "/" + name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 07777, 0600u) << name;
  }
  EXPECT_TRUE(std::filesystem::is_directory(etc() + "/users"));
  const auto config = load_config(etc() + "/culvertd.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->listen.to_string(), "192.0.2.1:8443");
  EXPECT_EQ(config->profile.address, "192.0.2.1:8443");
  EXPECT_EQ(config->network.ipv4->to_string(), "10.99.0.0/24");
  EXPECT_EQ(config->network.ipv6->to_string(), "fd99::/64");
  EXPECT_NE(outcome.out.find("culvertd user add"), std::string::npos) << "says what to do next";
}

TEST_F(Cli, InitNeverOverwrites) {
  ASSERT_EQ(init().code, 0);
  const std::string key = read_file(etc() + "/ca.key").value();
  const Outcome again = init();
  EXPECT_EQ(again.code, 2);
  EXPECT_NE(again.error.where.find(etc()), std::string::npos);
  EXPECT_FALSE(again.error.hint.empty());
  EXPECT_EQ(read_file(etc() + "/ca.key").value(), key);
}

TEST_F(Cli, InitStopsAtASingleFileInTheWayAndLeavesNoOther) {
  std::filesystem::create_directory(etc());
  ASSERT_TRUE(create_file(etc() + "/server.key", "mine"));
  EXPECT_EQ(init().code, 2);
  EXPECT_EQ(read_file(etc() + "/server.key").value(), "mine");
  EXPECT_FALSE(std::filesystem::exists(etc() + "/ca.key"));
}

TEST_F(Cli, InitThatCannotWriteLeavesNothing) {
  std::filesystem::create_directory(etc());
  ASSERT_EQ(::chmod(etc().c_str(), 0500), 0);
  std::filesystem::create_directory(dir_ / "room");
  ASSERT_TRUE(create_file(etc().substr(0, etc().size() - 3) + "file", "x"));
  EXPECT_EQ(run({"init", "--name", "a", "--dir", dir_ / "file/etc"}).code, 1);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "file/etc"));
}

TEST_F(Cli, InitRefusesBadOptionsByName) {
  const struct {
    Words words;
    const char* where;
  } cases[] = {
      {{"--ipv4", "10.0.0.1/24"}, "--ipv4"},   {{"--ipv4", "fd00::/64"}, "--ipv4"},
      {{"--ipv6", "10.0.0.0/24"}, "--ipv6"},   {{"--ipv4", "none", "--ipv6", "none"}, "--ipv4"},
      {{"--listen", "443"}, "--listen"},       {{"--address", "a b"}, "--address"},
      {{"--address", "a:99999"}, "--address"},
  };
  for (const auto& c : cases) {
    const Outcome outcome = init(c.words);
    EXPECT_EQ(outcome.code, 2);
    EXPECT_NE(outcome.error.where.find(c.where), std::string::npos) << outcome.error.message();
    EXPECT_FALSE(std::filesystem::exists(etc()));
  }
}

TEST_F(Cli, InterruptedInitLeavesNothing) {
  // The signal waits while files are made; a handler stands in for the end of the program.
  static volatile sig_atomic_t seen = 0;
  const auto before = ::signal(SIGTERM, [](int) { seen = 1; });
  {
    const SignalHold
        hold;  // the command's own hold is inside this one, so the signal stays waiting
    ::raise(SIGTERM);
    EXPECT_EQ(init().code, 1);
    EXPECT_FALSE(std::filesystem::exists(etc()));
    EXPECT_EQ(seen, 0);
  }
  EXPECT_EQ(seen, 1);
  ::signal(SIGTERM, before);
}

TEST_F(Cli, UserAddWritesAProfileThatSaysEverything) {
  ASSERT_EQ(init({"--address", "192.0.2.1:8443"}).code, 0);
  const Outcome added =
      command({"user", "add", "alice", "--group", "staff", "--profile", dir_ / "alice.toml"});
  ASSERT_EQ(added.code, 0) << added.error.message();
  struct stat info {};
  ASSERT_EQ(::stat((dir_ / "alice.toml").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);

  const auto file = config::TomlFile::load(dir_ / "alice.toml");
  ASSERT_TRUE(file) << file.error().message();
  config::TomlReader reader(*file);
  EXPECT_EQ(reader.string("name"), "vpn.example.com");
  EXPECT_EQ(reader.string("address"), "192.0.2.1:8443");
  EXPECT_EQ(reader.string("user"), "alice");
  const std::string ca = reader.required_string("tls.ca");
  EXPECT_EQ(ca, read_file(etc() + "/ca.crt").value());
  EXPECT_EQ(reader.required_string("tls.certificate").rfind("-----BEGIN CERTIFICATE-----", 0), 0u);
  EXPECT_NE(reader.required_string("tls.key").find("PRIVATE KEY"), std::string::npos);
  EXPECT_TRUE(reader.finish()) << "no other keys";
}

TEST_F(Cli, UserAddIsAllOrNothing) {
  ASSERT_EQ(init().code, 0);
  ASSERT_TRUE(create_file(dir_ / "taken.toml", "mine"));
  EXPECT_EQ(command({"user", "add", "alice", "--profile", dir_ / "taken.toml"}).code, 2);
  EXPECT_EQ(read_file(dir_ / "taken.toml").value(), "mine");
  EXPECT_FALSE(std::filesystem::exists(etc() + "/users/alice.toml"));
  EXPECT_FALSE(std::filesystem::exists(etc() + "/issued/alice"));
}

TEST_F(Cli, UserWithAValidCertificateGetsNoSecondOne) {
  ASSERT_EQ(init().code, 0);
  ASSERT_EQ(command({"user", "add", "alice", "--profile", dir_ / "1.toml"}).code, 0);
  const Outcome again = command({"user", "add", "alice", "--profile", dir_ / "2.toml"});
  EXPECT_EQ(again.code, 2);
  EXPECT_NE(again.error.hint.find("revoke"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "2.toml"));
}

TEST_F(Cli, RevokedUserIsListedAsSuchAndCanBeAddedAgain) {
  ASSERT_EQ(init().code, 0);
  ASSERT_EQ(command({"user", "add", "alice", "--profile", dir_ / "1.toml"}).code, 0);
  const Outcome revoked = command({"user", "revoke", "alice"});
  ASSERT_EQ(revoked.code, 0) << revoked.error.message();
  EXPECT_NE(revoked.out.find("No server is running"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(etc() + "/users/alice.toml"));
  EXPECT_NE(command({"user", "list"}, false).out.find("revoked"), std::string::npos);
  EXPECT_EQ(command({"user", "add", "alice", "--profile", dir_ / "2.toml"}).code, 0);

  const auto list = nlohmann::json::parse(command({"user", "list", "--json"}, false).out);
  ASSERT_EQ(list["users"].size(), 1u);
  EXPECT_EQ(list["users"][0]["user"], "alice");
  EXPECT_EQ(list["users"][0]["certificate"]["state"], "valid");
}

TEST_F(Cli, RevokeOfNobodyFailsWithANearMiss) {
  ASSERT_EQ(init().code, 0);
  ASSERT_EQ(command({"user", "add", "alice", "--profile", dir_ / "1.toml"}).code, 0);
  const Outcome outcome = command({"user", "revoke", "alcie"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_NE(outcome.error.hint.find("alice"), std::string::npos);
}

TEST_F(Cli, RevokeRefusesIfTheServerReadsAnotherList) {
  ASSERT_EQ(init().code, 0);
  ASSERT_EQ(command({"user", "add", "alice", "--profile", dir_ / "1.toml"}).code, 0);
  std::string text = read_file(etc() + "/culvertd.toml").value();
  text.replace(text.find("\"ca.crl\""), 8, "\"none\"");
  ASSERT_TRUE(replace_file(etc() + "/culvertd.toml", text));
  EXPECT_EQ(command({"user", "revoke", "alice"}).code, 2);
}

TEST_F(Cli, ExportWritesThreeFilesAndNeverOverwrites) {
  ASSERT_EQ(init().code, 0);
  for (const char* user : {"alice", "bob"}) {
    ASSERT_EQ(command({"user", "add", user, "--profile", dir_ / user}).code, 0);
  }
  const Words exporting{"pki", "export", "alice", "--out", dir_ / "out"};
  ASSERT_EQ(command(exporting, false).code, 0);
  for (const char* name : {"alice.crt", "alice.key", "ca.crt"}) {
    struct stat info {};
    ASSERT_EQ(::stat((dir_ / "out/").append(name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 07777, 0600u) << name;
  }
  EXPECT_EQ(command(exporting, false).code, 2);
  EXPECT_EQ(command({"pki", "export", "bob", "--out", dir_ / "out"}, false).code, 0)
      << "the CA's certificate may be there already";
}

TEST_F(Cli, UserNamesCannotLeaveTheFolder) {
  ASSERT_EQ(init().code, 0);
  for (const char* name : {"../evil", "a/b", ".hidden", "a b"}) {
    EXPECT_EQ(command({"user", "add", name, "--profile", dir_ / "p.toml"}).code, 2) << name;
    EXPECT_EQ(command({"user", "revoke", name}).code, 2) << name;
    EXPECT_EQ(command({"pki", "export", name, "--out", dir_ / "out"}, false).code, 2) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(dir_ / "p.toml"));
}

TEST_F(Cli, CommandsForARunningServerSaySeven) {
  for (const Words& words : {Words{"status"}, {"sessions"}, {"disconnect", "alice"}, {"reload"}}) {
    Words all = words;
    all.insert(all.end(), {"--socket", dir_ / "none.sock"});
    const Outcome outcome = run(all);
    EXPECT_EQ(outcome.code, 7) << outcome.error.message();
    EXPECT_NE(outcome.error.hint.find("culvertd run"), std::string::npos);
  }
}

TEST_F(Cli, CheckNamesWhatIsWrongAndExitsAccordingly) {
  const Outcome missing = command({"check"});
  EXPECT_EQ(missing.code, 2);
  ASSERT_EQ(init({"--listen", "127.0.0.1:18443"}).code, 0);
  ASSERT_TRUE(replace_file(etc() + "/server.key", read_file(etc() + "/ca.key").value()));
  const Outcome outcome = command({"check", "--json"});
  EXPECT_EQ(outcome.code, 2);
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["checks"][1]["grade"], "failed");
  EXPECT_NE(json["checks"][1]["text"].get<std::string>().find("server.key"), std::string::npos)
      << outcome.out;
}

TEST(LiveViews, ShowWhatIsThereAndDashForTheRest) {
  const auto status = nlohmann::json::parse(R"({"version":"1.2.3","pid":7,"uptime_s":3661,
      "sessions":{"attached":1,"detached":0,"total":1},"listen":"[::]:443",
      "logins":{"accepted":3,"refused_total":1,"refused":{"revoked":1}}})");
  const std::string text = status_view(status);
  for (const char* part : {"1.2.3, pid 7", "1h 1m", "1 (1 connected", "1 refused (revoked 1)"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
  }
  EXPECT_EQ(sessions_view(nlohmann::json::object()), "No sessions.\n");
  EXPECT_NO_THROW(static_cast<void>(status_view(nlohmann::json::parse("[]"))));
  EXPECT_NO_THROW(static_cast<void>(
      status_view(nlohmann::json::parse(R"({"sessions":1,"pools":[1],"tun":"x"})"))));
}

TEST(LiveViews, EscapeWhatPeersSay) {
  const auto sessions = nlohmann::json::parse(
      R"({"sessions":[{"id":1,"user":"a\u001b[31m","state":"attached","rx_bytes":1500}]})");
  const std::string text = sessions_view(sessions);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_NE(text.find("1.5 kB"), std::string::npos);
}

TEST(LiveViews, NumbersAreReadable) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(999), "999 B");
  EXPECT_EQ(human_bytes(1500000), "1.5 MB");
  EXPECT_EQ(human_seconds(0), "0s");
  EXPECT_EQ(human_seconds(59), "59s");
  EXPECT_EQ(human_seconds(3600), "1h");
  EXPECT_EQ(human_seconds(130), "2m 10s");
  EXPECT_EQ(human_seconds(90061), "1d 1h");
}

}  // namespace
}  // namespace culvert::server
