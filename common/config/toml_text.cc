#include "common/config/toml_text.h"

#include "common/base/text.h"

namespace culvert::config {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// Valid UTF-8, so that no editor and no parser stumbles.
std::string repaired(std::string_view text) {
  std::string out;
  for (;;) {
    const size_t valid = valid_utf8_prefix(text);
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) return out;
    out += kReplacement;
    text.remove_prefix(1);
  }
}

void append_escaped(std::string& out, char c, bool multiline) {
  const auto byte = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    out += '\\';
    out += c;
  } else if (c == '\n' && !multiline) {
    out += "\\n";
  } else if ((byte < 0x20 && c != '\n') || byte == 0x7f) {
    out += "\\u00" + to_hex(as_bytes({&c, 1}));
  } else {
    out += c;
  }
}

std::string escaped(std::string_view text, bool multiline) {
  std::string out;
  for (const char c : repaired(text))
    append_escaped(out, c, multiline);
  return out;
}

}  // namespace

std::string toml_quote(std::string_view text) {
  return "\"" + escaped(text, false) + "\"";
}

std::string toml_multiline(std::string_view text) {
  return "\"\"\"\n" + escaped(text, true) + "\"\"\"";
}

std::string toml_list(std::span<const std::string> items) {
  std::string out = "[";
  for (const std::string& item : items) {
    if (out.size() > 1) out += ", ";
    out += toml_quote(item);
  }
  return out + "]";
}

}  // namespace culvert::config
