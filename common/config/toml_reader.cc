// TomlReader of toml_file.h.
#include <algorithm>
#include <set>
#include <utility>

#include "common/base/text.h"
#include "common/config/duration.h"
#include "common/config/toml_document.h"
#include "common/config/toml_file.h"

namespace culvert::config {
namespace {

using Parts = std::vector<std::string>;
using Names = std::set<std::string, std::less<>>;

bool is_bare(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_';
  });
}

std::string quoted(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

// The reverse of join_key(): group."a b" to {group, a b}.
Parts split_key(std::string_view key) {
  Parts parts(1);
  bool inside = false;
  for (size_t i = 0; i < key.size(); ++i) {
    if (key[i] == '"') {
      inside = !inside;
    } else if (key[i] == '.' && !inside) {
      parts.emplace_back();
    } else {
      if (key[i] == '\\' && inside && i + 1 < key.size()) ++i;
      parts.back() += key[i];
    }
  }
  return parts;
}

std::string_view words_for(toml::node_type type) {
  switch (type) {
    case toml::node_type::none:
      return "nothing";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::date:
    case toml::node_type::time:
    case toml::node_type::date_time:
      return "a date or time";
  }
  return "something else";
}

std::string_view parent_of(std::string_view key, std::string_view last) {
  const size_t cut = key.size() - last.size();
  return key.substr(0, cut == 0 ? 0 : cut - 1);
}

std::string range(const std::string& min, const std::string& max) {
  return "must be from " + min + " to " + max;
}

}  // namespace

std::string join_key(std::string_view table, std::string_view name) {
  const std::string last = is_bare(name) ? std::string(name) : quoted(name);
  return table.empty() ? last : std::string(table) + "." + last;
}

struct TomlReader::State {
  State(const TomlFile& toml_file, const toml::table& root_table)
      : file(toml_file), root(root_table) {}

  // The node at `key`, which becomes a known key.
  const toml::node* find(std::string_view key) {
    note(key);
    return peek(key);
  }
  [[nodiscard]] const toml::node* peek(std::string_view key) const;
  void note(std::string_view key);
  void note_table(std::string_view key);
  [[nodiscard]] std::string where(std::string_view key, uint32_t line) const;
  // Keeps `problems` in the order of the file; what has no line (0) comes last.
  void add(std::string_view key, uint32_t line, std::string what, std::string hint);
  void add(std::string_view key, const toml::node& node, std::string what, std::string hint = {}) {
    add(key, node.source().begin.line, std::move(what), std::move(hint));
  }
  void wrong_type(std::string_view key, const toml::node& node, std::string_view wanted,
                  std::string hint = {});
  void find_unknown(const toml::table& table, const std::string& prefix);
  void report_unknown(std::string_view name, const std::string& key, const toml::node& node,
                      const toml::key& source);
  [[nodiscard]] std::string suggestion(std::string_view name, std::string_view key) const;
  std::optional<std::string> text_of(std::string_view key, const toml::node& node,
                                     std::string_view type_hint = {});
  template <typename T>
  std::optional<T> parse_node(std::string_view key, const toml::node& node,
                              Result<T> (*parse)(std::string_view),
                              std::string_view type_hint = {});
  template <typename T>
  std::optional<T> parse_key(std::string_view key, Result<T> (*parse)(std::string_view),
                             std::string_view type_hint = {});
  template <typename T>
  std::vector<T> parse_list(std::string_view key, Result<T> (*parse)(std::string_view));

  const TomlFile& file;
  const toml::table& root;
  Names keys;    // asked for
  Names tables;  // that they live in
  std::vector<uint32_t> lines;
  std::vector<Error> problems;  // one for each of `lines`
};

const toml::node* TomlReader::State::peek(std::string_view key) const {
  const toml::node* node = &root;
  if (key.empty()) return node;
  for (const std::string& part : split_key(key)) {
    const toml::table* table = node->as_table();
    node = table != nullptr ? table->get(part) : nullptr;
    if (node == nullptr) return nullptr;
  }
  return node;
}

void TomlReader::State::note(std::string_view key) {
  const Parts parts = split_key(key);
  std::string path;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    path = join_key(path, parts[i]);
    tables.insert(path);
  }
  keys.insert(join_key(path, parts.back()));
}

void TomlReader::State::note_table(std::string_view key) {
  if (key.empty()) return;
  std::string path;
  for (const std::string& part : split_key(key)) {
    path = join_key(path, part);
    tables.insert(path);
  }
}

std::string TomlReader::State::where(std::string_view key, uint32_t line) const {
  std::string out = file.file_name();
  if (line != 0) out += ":" + std::to_string(line);
  if (!key.empty()) out += ": " + escape_for_display(key);
  return out;
}

void TomlReader::State::add(std::string_view key, uint32_t line, std::string what,
                            std::string hint) {
  const auto order = [](uint32_t a, uint32_t b) { return a - 1 < b - 1; };  // 0 wraps to the end
  const auto at = std::upper_bound(lines.begin(), lines.end(), line, order) - lines.begin();
  problems.insert(problems.begin() + at,
                  fail(ErrorCode::kUsage, std::move(what), where(key, line), std::move(hint)));
  lines.insert(lines.begin() + at, line);
}

void TomlReader::State::wrong_type(std::string_view key, const toml::node& node,
                                   std::string_view wanted, std::string hint) {
  add(key, node, "must be " + std::string(wanted) + ", not " + std::string(words_for(node.type())),
      std::move(hint));
}

std::optional<std::string> TomlReader::State::text_of(std::string_view key, const toml::node& node,
                                                      std::string_view type_hint) {
  const auto* text = node.as_string();
  if (text == nullptr) {
    wrong_type(key, node, "a string", std::string(type_hint));
    return std::nullopt;
  }
  if (text->get().find('\0') != std::string::npos) {
    add(key, node, "holds a NUL character");
    return std::nullopt;
  }
  return text->get();
}

template <typename T>
std::optional<T> TomlReader::State::parse_node(std::string_view key, const toml::node& node,
                                               Result<T> (*parse)(std::string_view),
                                               std::string_view type_hint) {
  const auto text = text_of(key, node, type_hint);
  if (!text) return std::nullopt;
  auto value = parse(*text);
  if (value) return std::move(*value);
  add(key, node, value.error().what, value.error().hint);
  return std::nullopt;
}

template <typename T>
std::optional<T> TomlReader::State::parse_key(std::string_view key,
                                              Result<T> (*parse)(std::string_view),
                                              std::string_view type_hint) {
  const toml::node* node = find(key);
  return node != nullptr ? parse_node(key, *node, parse, type_hint) : std::nullopt;
}

template <typename T>
std::vector<T> TomlReader::State::parse_list(std::string_view key,
                                             Result<T> (*parse)(std::string_view)) {
  std::vector<T> values;
  const toml::node* node = find(key);
  if (node == nullptr) return values;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    wrong_type(key, *node, "a list", "put it into brackets: [\"…\"]");
    return values;
  }
  for (size_t i = 0; i < array->size(); ++i) {
    const std::string element = std::string(key) + "[" + std::to_string(i) + "]";
    if (auto value = parse_node(element, (*array)[i], parse)) values.push_back(std::move(*value));
  }
  return values;
}

// A near name in the same table, or the same name in another.
std::string TomlReader::State::suggestion(std::string_view name, std::string_view key) const {
  const auto last_of = [](const std::string& known) { return split_key(known).back(); };
  const std::string_view table = parent_of(key, join_key("", name));
  std::vector<std::string> siblings;
  std::string elsewhere;
  for (const Names* names : {&keys, &tables}) {
    for (const std::string& known : *names) {
      const std::string last = last_of(known);
      const std::string_view home = parent_of(known, join_key("", last));
      if (home == table) siblings.push_back(last);
      if (home != table && last == name)
        elsewhere = home.empty() ? "it belongs to the top of the file, before the first [table]"
                                 : "it belongs to [" + std::string(home) + "]";
    }
  }
  const std::vector<std::string_view> views(siblings.begin(), siblings.end());
  const auto near = nearest(name, views);
  return near ? "did you mean \"" + escape_for_display(*near) + "\"?" : elsewhere;
}

void TomlReader::State::report_unknown(std::string_view name, const std::string& key,
                                       const toml::node& node, const toml::key& source) {
  if (tables.contains(key)) {
    wrong_type(key, node, "a table", "write [" + escape_for_display(key) + "] above its keys");
    return;
  }
  const uint32_t line = source.source().begin.line;
  add(key, line != 0 ? line : node.source().begin.line,
      node.is_table() ? "unknown table" : "unknown key", suggestion(name, key));
}

void TomlReader::State::find_unknown(const toml::table& table, const std::string& prefix) {
  for (auto it = table.cbegin(); it != table.cend(); ++it) {
    const std::string_view name = it->first.str();
    const std::string key = join_key(prefix, name);
    if (keys.contains(key)) continue;
    const toml::table* inner = it->second.as_table();
    if (inner != nullptr && tables.contains(key)) {
      find_unknown(*inner, key);
    } else {
      report_unknown(name, key, it->second, it->first);
    }
  }
}

TomlReader::TomlReader(const TomlFile& file)
    : state_(std::make_unique<State>(file, file.document_->root)) {}
TomlReader::~TomlReader() = default;

bool TomlReader::has(std::string_view key) {
  return state_->find(key) != nullptr;
}

bool TomlReader::is_string(std::string_view key) {
  const toml::node* node = state_->find(key);
  return node != nullptr && node->is_string();
}

std::optional<std::string> TomlReader::string(std::string_view key) {
  const toml::node* node = state_->find(key);
  return node != nullptr ? state_->text_of(key, *node) : std::nullopt;
}

std::string TomlReader::required_string(std::string_view key, std::string_view hint) {
  const toml::node* node = state_->find(key);
  if (node == nullptr) {
    state_->add(key, 0, "is missing", std::string(hint));
    return {};
  }
  auto text = state_->text_of(key, *node, hint);
  if (text && text->empty()) state_->add(key, *node, "must not be empty", std::string(hint));
  return std::move(text).value_or("");
}

std::optional<std::string> TomlReader::choice(std::string_view key,
                                              std::initializer_list<std::string_view> words) {
  auto text = string(key);
  if (!text || std::find(words.begin(), words.end(), *text) != words.end()) return text;
  std::string list;
  for (const std::string_view word : words)
    list += (list.empty() ? "\"" : ", \"") + std::string(word) + "\"";
  problem(key, "\"" + escape_for_display(*text) + "\" is not one of " + list);
  return std::nullopt;
}

std::optional<bool> TomlReader::boolean(std::string_view key) {
  const toml::node* node = state_->find(key);
  if (node == nullptr) return std::nullopt;
  if (const auto* value = node->as_boolean()) return value->get();
  state_->wrong_type(key, *node, "true or false", node->is_string() ? "without quotes" : "");
  return std::nullopt;
}

std::optional<int64_t> TomlReader::integer(std::string_view key, int64_t min, int64_t max) {
  const toml::node* node = state_->find(key);
  if (node == nullptr) return std::nullopt;
  const auto* value = node->as_integer();
  if (value == nullptr) {
    state_->wrong_type(key, *node, "an integer", node->is_string() ? "without quotes" : "");
    return std::nullopt;
  }
  if (value->get() >= min && value->get() <= max) return value->get();
  state_->add(key, *node, range(std::to_string(min), std::to_string(max)));
  return std::nullopt;
}

std::optional<Duration> TomlReader::duration(std::string_view key, Duration min, Duration max) {
  const auto value =
      state_->parse_key(key, parse_duration, "write a number and a unit: \"15s\", \"5m\", \"1h\"");
  if (!value || (*value >= min && *value <= max)) return value;
  problem(key, range(print_duration(min), print_duration(max)));
  return std::nullopt;
}

std::optional<IpAddress> TomlReader::address(std::string_view key) {
  return state_->parse_key(key, IpAddress::parse);
}

std::optional<Prefix> TomlReader::prefix(std::string_view key) {
  return state_->parse_key(key, Prefix::parse);
}

std::optional<Endpoint> TomlReader::endpoint(std::string_view key) {
  return state_->parse_key(key, Endpoint::parse);
}

std::optional<std::filesystem::path> TomlReader::path(std::string_view key) {
  const auto text = string(key);
  if (!text) return std::nullopt;
  if (text->empty()) {
    problem(key, "must not be empty", "write the path of a file");
    return std::nullopt;
  }
  const std::filesystem::path folder =
      std::filesystem::path(state_->file.file_name()).parent_path();
  return (folder / *text).lexically_normal();  // an absolute path replaces the folder
}

std::vector<std::string> TomlReader::string_list(std::string_view key) {
  const auto as_it_is =
      +[](std::string_view text) -> Result<std::string> { return std::string(text); };
  return state_->parse_list(key, as_it_is);
}

std::vector<IpAddress> TomlReader::address_list(std::string_view key) {
  return state_->parse_list(key, IpAddress::parse);
}

std::vector<Prefix> TomlReader::prefix_list(std::string_view key) {
  return state_->parse_list(key, Prefix::parse);
}

std::vector<std::string> TomlReader::table_keys(std::string_view key) {
  state_->note_table(key);
  std::vector<std::string> names;
  const toml::node* node = state_->peek(key);
  const toml::table* table = node != nullptr ? node->as_table() : nullptr;
  if (table == nullptr) return names;
  for (auto it = table->cbegin(); it != table->cend(); ++it)
    names.emplace_back(it->first.str());
  return names;
}

void TomlReader::problem(std::string_view key, std::string what, std::string hint) {
  const toml::node* node = state_->peek(key);
  state_->add(key, node != nullptr ? node->source().begin.line : 0, std::move(what),
              std::move(hint));
}

std::string TomlReader::where(std::string_view key) const {
  const toml::node* node = state_->peek(key);
  return state_->where(key, node != nullptr ? node->source().begin.line : 0);
}

const std::vector<Error>& TomlReader::problems() const {
  return state_->problems;
}

Status TomlReader::finish() {
  state_->find_unknown(state_->root, {});
  if (state_->problems.empty()) return {};
  Error first = state_->problems.front();
  const size_t others = state_->problems.size() - 1;
  if (others > 0) {
    if (!first.hint.empty()) first.hint += "; ";
    first.hint += others == 1 ? "1 more problem" : std::to_string(others) + " more problems";
  }
  return first;
}

}  // namespace culvert::config
