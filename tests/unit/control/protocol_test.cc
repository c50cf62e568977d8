#include "common/control/protocol.h"

#include <gtest/gtest.h>

namespace culvert::control {
namespace {

TEST(ControlProtocol, RequestsComeBackAsTheyWere) {
  const Request request{"disconnect", {{"who", "al\n\"ice"}, {"force", true}, {"ids", {1, 2}}}};
  const std::string line = encode_request(request);
  EXPECT_EQ(line.find('\n'), std::string::npos) << "one line";
  const auto parsed = parse_request(line);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->command, "disconnect");
  EXPECT_EQ(parsed->arguments, request.arguments);
}

TEST(ControlProtocol, RefusesWhatIsNoRequest) {
  for (const char* line : {"", " ", "x", "1", "null", "[]", "\"status\"", "{}", R"({"command":1})",
                           R"({"command":""})", R"({"command":"a")", R"({"command":"a"} x)",
                           "{\"command\":\"\xff\"}", R"({"Command":"status"})"}) {
    const auto parsed = parse_request(line);
    ASSERT_FALSE(parsed) << line;
    EXPECT_EQ(parsed.error().code, ErrorCode::kUsage);
  }
}

TEST(ControlProtocol, RefusesDeepNestingWithoutCrashing) {
  EXPECT_FALSE(parse_request(std::string(100'000, '[')));
  EXPECT_FALSE(parse_answer(std::string(100'000, '[')));
  // Sound JSON, as far as it goes.
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_FALSE(parse_request(R"({"command":"x","a":)" + deep + "}"));
  EXPECT_FALSE(parse_answer(R"({"ok":true,"result":)" + deep + "}"));
  EXPECT_TRUE(parse_answer(R"({"ok":true,"result":{"a":[[{"b":[1]}]]}})"));
}

TEST(ControlProtocol, ArgumentsAreTyped) {
  const Request request{"x", {{"who", "alice"}, {"number", 7}, {"yes", true}, {"no", false}}};
  EXPECT_EQ(*request.text("who"), "alice");
  for (const char* name : {"number", "yes", "absent"}) {
    const auto text = request.text(name);
    ASSERT_FALSE(text) << name;
    EXPECT_EQ(text.error().code, ErrorCode::kUsage);
    EXPECT_NE(text.error().message().find(name), std::string::npos);
  }
  EXPECT_TRUE(request.flag("yes"));
  for (const char* name : {"no", "number", "who", "absent"})
    EXPECT_FALSE(request.flag(name));
}

TEST(ControlProtocol, ErrorsComeBackWithAllTheirParts) {
  for (const ErrorCode code :
       {ErrorCode::kFailure, ErrorCode::kUsage, ErrorCode::kAuthRefused,
        ErrorCode::kNeedsInteraction, ErrorCode::kUntrusted, ErrorCode::kNetwork,
        ErrorCode::kNotRunning, ErrorCode::kAlreadyUp, ErrorCode::kPermission}) {
    const auto answer = parse_answer(encode_error(fail(code, "what", "where", "hint")));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, code);
    EXPECT_EQ(answer.error().message(), "where: what (hint)");
  }
}

TEST(ControlProtocol, ResultsComeBack) {
  for (const Json& result : {Json::object(), Json{{"a", 1}}, Json::array({1, 2}), Json("text")}) {
    const auto answer = parse_answer(encode_answer(result));
    ASSERT_TRUE(answer);
    EXPECT_EQ(*answer, result);
  }
}

TEST(ControlProtocol, BadUtf8IsReplacedNotThrown) {
  const auto answer = parse_answer(encode_result(Json{{"user", "a\xff\xfe"}}));
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["user"], "a\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_FALSE(parse_answer(encode_error(fail(ErrorCode::kUsage, "bad \xc3"))));
  EXPECT_FALSE(pretty(Json("\xff")).empty());
}

TEST(ControlProtocol, RefusesWhatIsNoAnswer) {
  for (const char* line :
       {"", "1", "[]", "{}", R"({"ok":1})", R"({"result":{}})", "{\"ok\":true"}) {
    const auto answer = parse_answer(line);
    ASSERT_FALSE(answer) << line;
    EXPECT_EQ(answer.error().code, ErrorCode::kFailure);
  }
  // Odd, but it says no.
  for (const char* line : {R"({"ok":false})", R"({"ok":false,"error":7})",
                           R"({"ok":false,"error":{"code":"from_the_future","what":3}})"}) {
    const auto answer = parse_answer(line);
    ASSERT_FALSE(answer) << line;
    EXPECT_EQ(answer.error().code, ErrorCode::kFailure);
    EXPECT_FALSE(answer.error().what.empty()) << line;
  }
}

}  // namespace
}  // namespace culvert::control
