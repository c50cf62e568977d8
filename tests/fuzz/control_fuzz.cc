// Lines of the control socket, as the server reads requests and a command reads answers.
#include "common/control/protocol.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view line = as_text(fuzz::input(data, size));
  if (const auto request = control::parse_request(line)) {
    const std::string again = control::encode_request(*request);
    require(again.find('\n') == std::string::npos, "a request is one line");
    const auto reread = control::parse_request(again);
    require(reread && reread->command == request->command, "a request survives");
    (void)request->text("name");
    (void)request->flag("all");
  }
  const auto answer = control::parse_answer(line);
  const std::string encoded = control::encode_answer(answer);
  require(encoded.find('\n') == std::string::npos, "an answer is one line");
  const auto reread = control::parse_answer(encoded);
  require(reread.has_value() == answer.has_value(), "an answer survives");
  if (!answer) require(reread.error().code == answer.error().code, "an error keeps its code");
  if (answer) (void)control::pretty(*answer);
  return 0;
}
