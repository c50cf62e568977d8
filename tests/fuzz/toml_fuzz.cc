// Configuration text through every typed reader; and any text must survive being quoted.
#include "common/base/text.h"
#include "common/config/duration.h"
#include "common/config/toml_file.h"
#include "common/config/toml_text.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

void read_everything(config::TomlReader& reader) {
  using namespace std::chrono_literals;
  (void)reader.required_string("name");
  (void)reader.choice("unknown_users", {"allow", "deny"});
  (void)reader.endpoint("listen.address");
  (void)reader.path("tls.certificate");
  (void)reader.prefix("network.ipv4");
  (void)reader.address("network.address");
  (void)reader.address_list("network.dns");
  (void)reader.prefix_list("network.routes");
  (void)reader.duration("session.dpd", 1s, 1h);
  (void)reader.integer("session.max_per_user", 1, 100);
  (void)reader.boolean("forward");
  for (const auto& group : reader.table_keys("group"))
    (void)reader.string_list(config::join_key(config::join_key("group", group), "allow"));
}

void check_quoting(std::string_view text) {
  const bool whole = valid_utf8_prefix(text) == text.size();
  const std::string document =
      "a = " + config::toml_quote(text) + "\nb = " + config::toml_multiline(text) + "\n";
  const auto file = config::TomlFile::parse(document, "quoted");
  require(file.has_value(), "what we write can be read");
  if (!whole || text.find('\0') != std::string_view::npos) return;
  config::TomlReader reader(*file);
  require(reader.string("a") == text && reader.string("b") == text, "text survives quoting");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text(fuzz::input(data, size));
  if (const auto file = config::TomlFile::parse(text, "folder/fuzz.toml")) {
    config::TomlReader reader(*file);
    read_everything(reader);
    require(reader.finish().has_value() == reader.problems().empty(), "finish() tells of problems");
  }
  if (const auto duration = config::parse_duration(text)) {
    const auto again = config::parse_duration(config::print_duration(*duration));
    require(again && *again == *duration, "a duration survives printing");
  }
  check_quoting(text);
  return 0;
}
