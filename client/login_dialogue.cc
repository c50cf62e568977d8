#include "client/login_dialogue.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"

namespace culvert::client {
namespace {

using Type = wire::LoginInput::Type;

constexpr size_t kMaxTarget = 255;  // what ocserv takes

bool begins_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

std::string prompt_of(const wire::LoginInput& input) {
  std::string text = escape_for_display(trim(input.label.empty() ? input.name : input.label));
  if (!text.empty() && text.back() == ':') text.pop_back();
  return text + ": ";
}

bool is_target(std::string_view text) {
  return !text.empty() && text.front() == '/' && text.size() <= kMaxTarget &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string folder_of(std::string_view target) {
  target = target.substr(0, target.find('?'));
  return std::string(target.substr(0, target.rfind('/') + 1));
}

}  // namespace

LoginDialogue::LoginDialogue(const Profile& profile, std::string user, Answers* answers)
    : profile_(profile), user_(std::move(user)), answers_(answers) {
  reset();
}

void LoginDialogue::reset() {
  cancel();
  question_ = {};
  fields_.clear();
  given_.clear();
  target_ = profile_.path;
  context_.clear();
}

void LoginDialogue::cancel() {
  if (std::exchange(done_, nullptr) && answers_ != nullptr) answers_->cancel();
}

void LoginDialogue::take(LoginQuestion question) {
  question_ = std::move(question);
  if (question_.context) context_ = *question_.context;
}

void LoginDialogue::answer(std::function<void(const Status&)> done) {
  fields_.clear();
  if (const Status filled = fill_in(); !filled) return done(filled);
  done_ = std::move(done);
  ask_next();
}

Status LoginDialogue::fill_in() {
  const wire::LoginForm& form = question_.response.form;
  auto where = target();
  if (!where) return std::move(where.error());
  for (const wire::LoginInput& input : form.inputs) {
    if (input.type == Type::kOther) continue;  // as stock clients do
    Field field{input.name, {}, {}, !is_known(input)};
    if (field.open) {
      field.prompt = prompt_of(input);
    } else {
      auto value = fill_known(input);
      if (!value) return std::move(value.error());
      field.value = Secret(as_bytes(*value));
    }
    fields_.push_back(std::move(field));
  }
  if (fields_.empty() && !form.confirmation)
    return fail(ErrorCode::kFailure,
                "the server sent a login form without fields to fill in" +
                    (words_of(question_.response).empty() ? std::string()
                                                          : ": " + words_of(question_.response)));
  target_ = std::move(*where);
  return {};
}

bool LoginDialogue::is_known(const wire::LoginInput& input) const {
  const bool name = begins_with(input.name, "user") || begins_with(input.name, "uname");
  return input.type == Type::kHidden || input.type == Type::kSelect ||
         (input.type == Type::kText && name && !user_.empty());
}

Result<std::string> LoginDialogue::fill_known(const wire::LoginInput& input) {
  if (input.type == Type::kHidden) return input.value;
  if (input.type == Type::kText) return user_;
  if (!input.options.empty()) return input.options.front();  // what the server has selected
  return fail(ErrorCode::kFailure, "the server sent a login form with nothing to choose from",
              escape_for_display(input.name));
}

// Where the form goes: an absolute path, one beside the present path, or a URL of this server.
Result<std::string> LoginDialogue::target() const {
  std::string action = question_.response.form.action;
  const std::string here = "https://" + profile_.authority();
  if (begins_with(action, here + "/")) action.erase(0, here.size());
  if (action.empty()) action = target_;
  if (action.front() != '/' && action.find("://") == std::string::npos)
    action.insert(0, folder_of(target_));
  if (is_target(action)) return action;
  return fail(ErrorCode::kFailure, "the server wants its form to be sent elsewhere",
              escape_for_display(action), "a password goes to the server that was asked for only");
}

void LoginDialogue::ask_next() {
  const auto next =
      std::find_if(fields_.begin(), fields_.end(), [](const Field& field) { return field.open; });
  if (next == fields_.end()) {
    return std::exchange(done_, nullptr)({});
  }
  if (answers_ == nullptr) return std::exchange(done_, nullptr)(nobody());
  const bool again = std::find(given_.begin(), given_.end(), next->name) != given_.end();
  if (again && !answers_->can_try_again()) {
    const std::string words = words_of(question_.response);
    return std::exchange(done_, nullptr)(fail(ErrorCode::kAuthRefused,
                                              "the server asks once more for what was answered" +
                                                  (words.empty() ? std::string() : ": " + words),
                                              {}, "is what password_command says right?"));
  }
  given_.push_back(next->name);
  answers_->ask({next->name, next->prompt}, [this, next](Result<Secret> value) {
    if (!done_) return;
    if (!value) return std::exchange(done_, nullptr)(std::move(value.error()));
    next->value = std::move(*value);
    next->open = false;
    ask_next();
  });
}

Error LoginDialogue::nobody() const {
  std::string names;
  for (const Field& field : fields_)
    if (field.open)
      names += (names.empty() ? "" : ", ") + field.prompt.substr(0, field.prompt.size() - 2);
  std::string what = "the server wants more than the certificate (" + names + ")";
  const std::string words = words_of(question_.response);
  if (!words.empty()) what += ": " + words;
  return fail(ErrorCode::kNeedsInteraction, std::move(what), {},
              "connect from a terminal, or let password_command in the profile answer");
}

wire::HttpRequest LoginDialogue::reply() {
  wire::LoginReply document{CULVERT_VERSION, question_.response.opaque_xml, {}};
  for (const Field& field : fields_)
    document.answers.push_back({field.name, std::string(as_text(field.value.bytes()))});
  fields_.clear();
  wire::HttpRequest request =
      login_post(profile_, target_, wire::write_auth_reply(document), context_);
  for (auto& answer : document.answers)
    wipe(std::as_writable_bytes(std::span(answer.value)));
  return request;
}

}  // namespace culvert::client
