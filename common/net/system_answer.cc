#include "common/net/system_answer.h"

#include "common/base/text.h"
#include "common/net/request_line.h"

namespace culvert::net {
namespace {

constexpr size_t kMaxErrorText = 2000;
constexpr size_t kMaxAnswerText = size_t{16} << 20;  // three times what nft may print, and more
constexpr uint32_t kLastErrorCode = static_cast<uint32_t>(ErrorCode::kPermission);

std::string_view short_of(std::string_view text) {
  return text.substr(0, kMaxErrorText);
}

}  // namespace

Status first_error(const std::vector<SystemAnswer>& answers) {
  for (const SystemAnswer& answer : answers) {
    if (answer.error) return *answer.error;
  }
  return {};
}

std::string to_text(const SystemAnswer& answer) {
  if (answer.ok()) return LineWriter("done").text_unless_empty("output", answer.output).take();
  const Error& error = *answer.error;
  return LineWriter(answer.attempted ? "failed" : "skipped")
      .number("code", static_cast<uint32_t>(error.code))
      .text("what", short_of(error.what))
      .text_unless_empty("where", short_of(error.where))
      .text_unless_empty("hint", short_of(error.hint))
      .take();
}

Result<SystemAnswer> parse_answer(std::string_view line) {
  if (line.size() > kMaxAnswerText)
    return fail(ErrorCode::kUsage, "answer too long", escape_for_display(line.substr(0, 40)));
  LineReader reader(line);
  SystemAnswer answer;
  if (reader.verb() == "done") {
    answer.output = reader.optional_text("output").value_or("");
  } else if (reader.verb() == "failed" || reader.verb() == "skipped") {
    answer.attempted = reader.verb() == "failed";
    const uint32_t code = reader.required_number("code");
    if (code == 0 || code > kLastErrorCode) reader.note("not the code of an error", "code");
    Error error;
    error.code = static_cast<ErrorCode>(code);
    error.what = reader.text("what");
    error.where = reader.optional_text("where").value_or("");
    error.hint = reader.optional_text("hint").value_or("");
    answer.error = std::move(error);
  } else {
    reader.note("unknown answer", reader.verb());
  }
  if (Status good = reader.finish(); !good) return std::move(good.error());
  return answer;
}

}  // namespace culvert::net
