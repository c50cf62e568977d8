#include "client/login_dialogue.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace culvert::client {
namespace {

// Answers at once from a table; what is not in it has no answer.
class Table final : public Answers {
 public:
  void ask(const Question& question, Done done) override {
    asked.push_back(question.field + "|" + question.prompt);
    if (silent) {
      waiting = std::move(done);
      return;
    }
    const auto found = values.find(question.field);
    if (found == values.end()) return done(fail(ErrorCode::kNeedsInteraction, "no answer"));
    done(Secret(as_bytes(found->second)));
  }
  void cancel() override { ++cancelled; }
  [[nodiscard]] bool can_try_again() const override { return person; }

  std::map<std::string, std::string> values;
  std::vector<std::string> asked;
  bool person = false;
  bool silent = false;
  Done waiting;
  int cancelled = 0;
};

struct DialogueRig {
  explicit DialogueRig(Answers* answers) : dialogue(profile, "alice", answers) {}

  static Profile make_profile() {
    Profile made;
    made.server_name = "vpn.example.com";
    made.path = "/groups/staff?secret";
    return made;
  }

  // The status of answer(), which must come at once.
  Status answer(const std::string& auth, std::optional<std::string> context = {}) {
    auto response =
        wire::parse_login_response("<config-auth client='vpn'>" + auth + "</config-auth>");
    EXPECT_TRUE(response);
    if (!response) return std::move(response.error());
    dialogue.take({std::move(*response), std::move(context), true});
    std::optional<Status> outcome;
    dialogue.answer([&](const Status& status) { outcome = status; });
    EXPECT_TRUE(outcome);
    return outcome.value_or(fail(ErrorCode::kFailure, "none"));
  }
  // "POST target name=value …" of the reply.
  std::string reply() {
    const wire::HttpRequest request = dialogue.reply();
    const auto body = wire::parse_login_request(request.body);
    EXPECT_TRUE(body);
    std::string text = request.method + " " + request.target;
    if (!body->group_select.empty()) text += " group-select=" + body->group_select;
    for (const auto& one : body->answers)
      text += " " + one.name + "=" + one.value;
    if (const auto cookie = request.find("Cookie")) text += " [" + std::string(*cookie) + "]";
    return text;
  }

  Profile profile = make_profile();
  LoginDialogue dialogue;
};

std::string form(const std::string& inside, const std::string& action = "/auth") {
  return "<auth id='main'><message>Please enter</message><form method='post' action='" + action +
         "'>" + inside + "</form></auth>";
}
const std::string kUser = "<input type='text' name='username' label='Username:'/>";
const std::string kPassword = "<input type='password' name='password' label='Password:'/>";

TEST(LoginDialogue, FillsInWhatIsKnownAndAsksTheRest) {
  Table table;
  table.values = {{"password", "secret"}};
  DialogueRig rig(&table);
  const Status status = rig.answer(form(kUser + kPassword +
                                        "<input type='hidden' name='h' value='&lt;v&gt;'/>"
                                        "<input type='submit' name='s'/>"
                                        "<input type='sso' name='sso'/>"
                                        "<select name='group_list'><option>a</option></select>"),
                                   "c0");
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_EQ(table.asked, (std::vector<std::string>{"password|Password: "}));
  EXPECT_EQ(rig.reply(),
            "POST /auth group-select=a username=alice password=secret h=<v> [webvpncontext=c0]");
}

TEST(LoginDialogue, ANameFieldAloneNeedsNobody) {
  DialogueRig rig(nullptr);
  ASSERT_TRUE(rig.answer(form(kUser)));
  EXPECT_EQ(rig.reply(), "POST /auth username=alice");
}

TEST(LoginDialogue, WithoutAnybodyToAskItSaysWhatIsWanted) {
  DialogueRig rig(nullptr);
  const Status status = rig.answer(form(kUser + kPassword));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNeedsInteraction);
  EXPECT_NE(status.error().message().find("(Password): Please enter"), std::string::npos)
      << status.error().message();
  EXPECT_NE(status.error().hint.find("password_command"), std::string::npos);
}

TEST(LoginDialogue, ACommandIsAskedOnceForAField) {
  Table table;
  table.values = {{"password", "wrong"}, {"secondary_password", "123456"}};
  DialogueRig rig(&table);
  ASSERT_TRUE(rig.answer(form(kPassword)));
  ASSERT_TRUE(rig.answer(form("<input type='password' name='secondary_password'/>")));
  const Status again = rig.answer("<auth id='main'><message>Login failed.</message><form>" +
                                  kPassword + "</form></auth>");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kAuthRefused);
  EXPECT_NE(again.error().message().find("Login failed."), std::string::npos);
  rig.dialogue.reset();
  EXPECT_TRUE(rig.answer(form(kPassword))) << "in another login";
}

TEST(LoginDialogue, APersonMayTryAgain) {
  Table table;
  table.person = true;
  table.values = {{"password", "wrong"}};
  DialogueRig rig(&table);
  ASSERT_TRUE(rig.answer(form(kPassword), "c0"));
  ASSERT_TRUE(rig.answer(form(kPassword)));
  EXPECT_EQ(rig.reply(), "POST /auth password=wrong [webvpncontext=c0]") << "the cookie is kept";
  EXPECT_EQ(table.asked.size(), 2U);
}

TEST(LoginDialogue, NoAnswerIsTheEnd) {
  Table table;
  DialogueRig rig(&table);
  const Status status = rig.answer(form(kPassword));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kNeedsInteraction);
}

TEST(LoginDialogue, FormsThatMakeNoSense) {
  Table table;
  DialogueRig rig(&table);
  for (const std::string& auth :
       {form(""), form("<input type='submit' name='s'/>"), form("<input type='sso' name='s'/>"),
        form("<select name='group_list'/>")}) {
    const Status status = rig.answer(auth);
    ASSERT_FALSE(status) << auth;
    EXPECT_EQ(status.error().code, ErrorCode::kFailure) << auth;
  }
  EXPECT_TRUE(table.asked.empty());
}

TEST(LoginDialogue, AConfirmationIsPostedWithoutFields) {
  DialogueRig rig(nullptr);
  ASSERT_TRUE(rig.answer("<auth id='main'><authentication-complete/></auth>"));
  EXPECT_EQ(rig.reply(), "POST /groups/staff?secret");
}

TEST(LoginDialogue, TheReplyStaysWithTheServer) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "/groups/staff?secret"},
      {"/auth", "/auth"},
      {"auth?x", "/groups/auth?x"},
      {"https://vpn.example.com/elsewhere", "/elsewhere"},
      {"https://vpn.example.com.evil.org/", ""},
      {"https://evil.org/auth", ""},
      {"http://vpn.example.com/auth", ""},
      {"/a b", ""},
      {"/" + std::string(300, 'a'), ""}};
  for (const auto& [action, target] : cases) {
    DialogueRig rig(nullptr);
    const Status status = rig.answer(form(kUser, action));
    EXPECT_EQ(status.has_value(), !target.empty()) << action;
    if (status && !target.empty()) EXPECT_EQ(rig.reply(), "POST " + target + " username=alice");
  }
}

TEST(LoginDialogue, AfterCancellingNothingComes) {
  Table table;
  table.silent = true;
  DialogueRig rig(&table);
  auto response = wire::parse_login_response(form(kPassword));
  ASSERT_TRUE(response);
  rig.dialogue.take({std::move(*response), {}, true});
  bool called = false;
  rig.dialogue.answer([&](const Status&) { called = true; });
  rig.dialogue.cancel();
  EXPECT_EQ(table.cancelled, 1);
  table.waiting(Secret(as_bytes("late")));
  EXPECT_FALSE(called);
  rig.dialogue.cancel();
  EXPECT_EQ(table.cancelled, 1) << "once";
}

TEST(LoginDialogue, PromptsAreEscaped) {
  Table table;
  table.values = {{"password", "x"}};
  DialogueRig rig(&table);
  ASSERT_TRUE(rig.answer(form("<input type='password' name='password' label='a&#27;[2Jb'/>")));
  EXPECT_EQ(table.asked[0].find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace culvert::client
