#include "common/config/toml_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <functional>

namespace culvert::config {
namespace {

using namespace std::chrono_literals;

TomlFile parsed(std::string_view text) {
  auto file = TomlFile::parse(text, "etc/culvertd.toml");
  EXPECT_TRUE(file) << file.error().message();
  return std::move(*file);
}

// The message of the only problem that `read` finds in `text`.
template <typename Read>
std::string problem_in(std::string_view text, Read read) {
  const TomlFile file = parsed(text);
  TomlReader reader(file);
  read(reader);
  const Status status = reader.finish();
  EXPECT_EQ(reader.problems().size(), 1U);
  return status ? "no problem" : status.error().message();
}

constexpr std::string_view kServer = R"(
unknown_users = "allow"
[listen]
address = "[::]:443"
[tls]
certificate = "server.crt"
key = "/etc/keys/server.key"
[network]
ipv4 = "10.99.0.0/24"
gateway = "fd99::1"
dns = ["10.20.0.53", "fd20::53"]
routes = ["10.20.0.0/16"]
forward = true
[session]
dpd = "15s"
max_per_user = 2
[group.engineering]
allow = ["10.20.0.0/16 tcp 22,443"]
[group."sales & co"]
allow = []
)";

TEST(TomlReader, ReadsEveryType) {
  const TomlFile file = parsed(kServer);
  TomlReader reader(file);
  EXPECT_EQ(reader.choice("unknown_users", {"allow", "deny"}), "allow");
  EXPECT_EQ(reader.endpoint("listen.address")->to_string(), "[::]:443");
  EXPECT_EQ(reader.path("tls.certificate"), "etc/server.crt");
  EXPECT_EQ(reader.path("tls.key"), "/etc/keys/server.key");
  EXPECT_EQ(reader.prefix("network.ipv4")->to_string(), "10.99.0.0/24");
  EXPECT_EQ(reader.address("network.gateway")->to_string(), "fd99::1");
  EXPECT_EQ(reader.address_list("network.dns").size(), 2U);
  EXPECT_EQ(reader.prefix_list("network.routes").at(0).to_string(), "10.20.0.0/16");
  EXPECT_EQ(reader.boolean("network.forward"), true);
  EXPECT_EQ(reader.duration("session.dpd", 1s, 1h), 15s);
  EXPECT_EQ(reader.integer("session.max_per_user", 1, 100), 2);
  EXPECT_EQ(reader.table_keys("group"), (std::vector<std::string>{"engineering", "sales & co"}));
  for (const auto& name : reader.table_keys("group"))
    (void)reader.string_list(join_key(join_key("group", name), "allow"));
  EXPECT_TRUE(reader.finish());
}

TEST(TomlReader, AbsentKeysAreNothingAndNoProblem) {
  const TomlFile file = parsed("");
  TomlReader reader(file);
  EXPECT_FALSE(reader.string("a"));
  EXPECT_FALSE(reader.duration("b.c", 1s, 2s));
  EXPECT_TRUE(reader.string_list("d").empty());
  EXPECT_TRUE(reader.table_keys("e").empty());
  EXPECT_FALSE(reader.has("f"));
  EXPECT_TRUE(reader.finish());
}

TEST(TomlReader, NamesFileLineKeyAndRemedy) {
  EXPECT_EQ(problem_in("[session]\n\ndpd = \"15\"\n",
                       [](TomlReader& r) { (void)r.duration("session.dpd", 1s, 1h); }),
            "etc/culvertd.toml:3: session.dpd: \"15\" is not a duration "
            "(write a whole number and a unit: 500ms, 15s, 5m, 1h, 2d)");
}

TEST(TomlReader, ExplainsEveryWrongValue) {
  struct {
    const char* text;
    std::function<void(TomlReader&)> read;
    const char* message;
  } const cases[] = {
      {"a = 5", [](TomlReader& r) { (void)r.string("a"); }, "a: must be a string, not an integer"},
      {"a = 5", [](TomlReader& r) { (void)r.duration("a", 1s, 2s); },
       "a: must be a string, not an integer (write a number and a unit: \"15s\", \"5m\", \"1h\")"},
      {"a = \"3h\"", [](TomlReader& r) { (void)r.duration("a", 1s, 1h); },
       "a: must be from 1s to 1h"},
      {"a = \"x\"", [](TomlReader& r) { (void)r.integer("a", 1, 2); },
       "a: must be an integer, not a string (without quotes)"},
      {"a = 1.5", [](TomlReader& r) { (void)r.integer("a", 1, 2); },
       "a: must be an integer, not a number with a fraction"},
      {"a = 3", [](TomlReader& r) { (void)r.integer("a", 1, 2); }, "a: must be from 1 to 2"},
      {"a = -1", [](TomlReader& r) { (void)r.integer("a", 0, 2); }, "a: must be from 0 to 2"},
      {"a = \"yes\"", [](TomlReader& r) { (void)r.boolean("a"); },
       "a: must be true or false, not a string (without quotes)"},
      {"a = \"x\"",
       [](TomlReader& r) {
         (void)r.choice("a", {"allow", "deny"});
       },
       "a: \"x\" is not one of \"allow\", \"deny\""},
      {"a = \"10.0.0.0/33\"", [](TomlReader& r) { (void)r.prefix("a"); },
       "a: \"10.0.0.0/33\" is not a network (the length goes from 0 to 32)"},
      {"a = \"::1:443\"", [](TomlReader& r) { (void)r.endpoint("a"); },
       "a: \"::1:443\" is not an address and port (write it like 192.0.2.1:443 or "
       "[2001:db8::1]:443)"},
      {"a = \"x\"", [](TomlReader& r) { (void)r.string_list("a"); },
       "a: must be a list, not a string (put it into brackets: [\"…\"])"},
      {"a = [\"1.2.3.4\", 5]", [](TomlReader& r) { (void)r.address_list("a"); },
       "a[1]: must be a string, not an integer"},
      {"a = \"\"", [](TomlReader& r) { (void)r.required_string("a", "say it"); },
       "a: must not be empty (say it)"},
      {"a = \"x\\u0000\"", [](TomlReader& r) { (void)r.string("a"); }, "a: holds a NUL character"},
  };
  for (const auto& c : cases)
    EXPECT_EQ(problem_in(c.text, c.read), "etc/culvertd.toml:1: " + std::string(c.message));
}

TEST(TomlReader, MissingKeysHaveNoLine) {
  EXPECT_EQ(problem_in("", [](TomlReader& r) { (void)r.required_string("tls.key", "run init"); }),
            "etc/culvertd.toml: tls.key: is missing (run init)");
}

TEST(TomlReader, ReportsUnknownKeysWithTheNearestName) {
  const auto read = [](TomlReader& r) {
    (void)r.string("session.dpd");
    (void)r.string("session.idle_timeout");
    (void)r.string("listen.address");
    (void)r.string("unknown_users");
  };
  EXPECT_EQ(problem_in("[session]\nidle_timout = \"1h\"\n", read),
            "etc/culvertd.toml:2: session.idle_timout: unknown key "
            "(did you mean \"idle_timeout\"?)");
  EXPECT_EQ(problem_in("[sesion]\ndpd = \"1h\"\nidle_timeout = \"1h\"\n", read),
            "etc/culvertd.toml:1: sesion: unknown table (did you mean \"session\"?)");
  EXPECT_EQ(problem_in("dpd = \"1h\"\n", read),
            "etc/culvertd.toml:1: dpd: unknown key (it belongs to [session])");
  EXPECT_EQ(problem_in("[listen]\nunknown_users = \"deny\"\n", read),
            "etc/culvertd.toml:2: listen.unknown_users: unknown key "
            "(it belongs to the top of the file, before the first [table])");
  EXPECT_EQ(problem_in("\nsession = 5\n", read),
            "etc/culvertd.toml:2: session: must be a table, not an integer "
            "(write [session] above its keys)");
  EXPECT_EQ(problem_in("zzzzzzzz = 5\n", read), "etc/culvertd.toml:1: zzzzzzzz: unknown key");
}

TEST(TomlReader, SeesUnknownKeysInNamedTables) {
  EXPECT_EQ(problem_in("[group.\"a.b\"]\nalow = []\n",
                       [](TomlReader& r) {
                         for (const auto& name : r.table_keys("group"))
                           (void)r.string_list(join_key(join_key("group", name), "allow"));
                       }),
            "etc/culvertd.toml:2: group.\\\"a.b\\\".alow: unknown key (did you mean \"allow\"?)");
}

TEST(TomlReader, ReportsAllProblemsInTheOrderOfTheFile) {
  const TomlFile file = parsed("a = 1\nb = 2\nc = 3\n");
  TomlReader reader(file);
  (void)reader.required_string("missing");
  (void)reader.string("b");
  (void)reader.string("a");
  reader.problem("b", "is also odd", "change it");
  const Status status = reader.finish();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUsage);
  EXPECT_EQ(status.error().message(),
            "etc/culvertd.toml:1: a: must be a string, not an integer (4 more problems)");
  std::string lines;
  for (const Error& problem : reader.problems())
    lines += problem.where + "\n";
  EXPECT_EQ(lines,
            "etc/culvertd.toml:1: a\netc/culvertd.toml:2: b\netc/culvertd.toml:2: b\n"
            "etc/culvertd.toml:3: c\netc/culvertd.toml: missing\n");
}

TEST(TomlReader, TellsWhereAKeyStands) {
  const TomlFile file = parsed("[tls]\nkey = \"k\"\n");
  const TomlReader reader(file);
  EXPECT_EQ(reader.where("tls.key"), "etc/culvertd.toml:2: tls.key");
  EXPECT_EQ(reader.where("tls.crl"), "etc/culvertd.toml: tls.crl");
}

TEST(TomlFile, SyntaxErrorsNameTheLine) {
  const auto file = TomlFile::parse("a = 1\nb = \n", "x.toml");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kUsage);
  EXPECT_EQ(file.error().where, "x.toml:2");
  EXPECT_FALSE(file.error().what.empty());
}

TEST(TomlFile, RefusesDuplicatesBadUtf8AndDeepNesting) {
  EXPECT_FALSE(TomlFile::parse("a = 1\na = 2\n", "x"));
  EXPECT_FALSE(TomlFile::parse("a = \"\xff\"\n", "x"));
  EXPECT_FALSE(TomlFile::parse("a = " + std::string(100000, '[') + "\n", "x"));
  EXPECT_FALSE(TomlFile::parse("#" + std::string(kMaxTomlBytes, 'x'), "x"));
}

TEST(TomlFile, LoadsFromDisk) {
  const std::string path = ::testing::TempDir() + "culvert_toml_" + std::to_string(::getpid());
  std::ofstream(path) << "cert = \"c.pem\"\n";
  const auto file = TomlFile::load(path);
  ASSERT_TRUE(file);
  TomlReader reader(*file);
  EXPECT_EQ(reader.path("cert"), std::filesystem::path(path).parent_path() / "c.pem");
  ::unlink(path.c_str());
  const auto absent = TomlFile::load(path);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().code, ErrorCode::kUsage);
}

}  // namespace
}  // namespace culvert::config
