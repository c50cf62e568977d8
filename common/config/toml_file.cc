#include "common/config/toml_file.h"

#include <utility>

#include "common/base/file.h"
#include "common/base/text.h"
#include "common/config/toml_document.h"

namespace culvert::config {

TomlFile::TomlFile(std::unique_ptr<Document> document, std::string file_name)
    : document_(std::move(document)), file_name_(std::move(file_name)) {}
TomlFile::TomlFile(TomlFile&&) noexcept = default;
TomlFile& TomlFile::operator=(TomlFile&&) noexcept = default;
TomlFile::~TomlFile() = default;

Result<TomlFile> TomlFile::parse(std::string_view text, std::string file_name) {
  if (text.size() > kMaxTomlBytes)
    return fail(ErrorCode::kUsage, "the file is too long", std::move(file_name),
                "1 MiB is the most");
  try {
    auto document = std::make_unique<Document>();
    document->root = toml::parse(text, std::string(file_name));
    return TomlFile(std::move(document), std::move(file_name));
  } catch (const toml::parse_error& error) {
    return fail(ErrorCode::kUsage, escape_for_display(error.description()),
                file_name + ":" + std::to_string(error.source().begin.line));
  }
}

Result<TomlFile> TomlFile::load(const std::filesystem::path& path) {
  const auto text = read_file(path.string(), kMaxTomlBytes);
  if (!text) return text.error();
  return parse(*text, path.string());
}

}  // namespace culvert::config
