// LoginDialogue: what is said in a login beyond the certificate: the server's forms, and our
// replies to them. Hidden fields go back as they came, the user's name is known, everything else is
// asked.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "client/answers.h"
#include "client/login.h"
#include "client/profile.h"
#include "common/base/secret.h"

namespace culvert::client {

class LoginDialogue {
 public:
  // `user`: for fields that ask for a user's name. `answers`: for all others; null: nobody can be
  // asked. Both references must outlive the dialogue.
  LoginDialogue(const Profile& profile, std::string user, Answers* answers);

  // A new login begins.
  void reset();
  void take(LoginQuestion question);
  // Finds an answer to each field of the form that was taken, and calls `done`, perhaps at once.
  // kNeedsInteraction: there is nobody to ask; kAuthRefused: the only answer there is was wrong;
  // kFailure: a form that makes no sense. The server's words are in each.
  void answer(std::function<void(const Status&)> done);
  // No call of `done` comes any more.
  void cancel();

  // The form, filled in: wipe it after use. REQUIRES: answer() has succeeded; called once for it.
  [[nodiscard]] wire::HttpRequest reply();

 private:
  Status fill_in();
  Result<std::string> fill_known(const wire::LoginInput& input);
  void ask_next();
  [[nodiscard]] Result<std::string> target() const;
  [[nodiscard]] bool is_known(const wire::LoginInput& input) const;
  [[nodiscard]] Error nobody() const;

  struct Field {
    std::string name;
    Secret value;
    std::string prompt;  // of one that has to be asked
    bool open = false;
  };

  const Profile& profile_;
  std::string user_;
  Answers* answers_;
  LoginQuestion question_;
  std::vector<Field> fields_;       // of the reply
  std::vector<std::string> given_;  // names of the fields that were asked in this login
  std::string target_;              // of the last request
  std::string context_;
  std::function<void(const Status&)> done_;
};

}  // namespace culvert::client
