// Lines of the control protocol, as the program reads them and as those who ask it do: what is
// understood survives being said again, in one line.
#include "common/control/protocol.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

void check_line(const std::string& line) {
  require(line.find('\n') == std::string::npos, "a message is one line");
}

void check_request(std::string_view text) {
  const auto request = control::parse_request(text);
  if (!request) {
    require(request.error().code == ErrorCode::kUsage, "a bad request is the other side's fault");
    return;
  }
  const std::string line = control::encode_request(*request);
  check_line(line);
  const auto again = control::parse_request(line);
  require(again && again->command == request->command && again->arguments == request->arguments,
          "a request survives being sent on");
  for (const auto& [name, value] : request->arguments.items()) {
    require(request->text(name).has_value() == value.is_string(), "texts are texts");
    require(request->flag(name) == (value == true), "flags are true");
  }
}

void check_answer(std::string_view text) {
  const auto answer = control::parse_answer(text);
  const std::string line = control::encode_answer(answer);
  check_line(line);
  const auto again = control::parse_answer(line);
  require(again.has_value() == answer.has_value(), "an answer keeps its meaning");
  if (answer) {
    require(*again == *answer, "a result survives being sent on");
    require(!control::pretty(*answer).empty(), "a result can be shown");
    return;
  }
  const Error& error = answer.error();
  require(!error.what.empty(), "a failure says what is wrong");
  require(again.error().code == error.code && again.error().message() == error.message(),
          "an error survives being sent on");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text(fuzz::input(data, size));
  check_request(text);
  check_answer(text);
  return 0;
}
