// The config-auth documents of the login phase, read and written over pugixml (which stays inside
// auth_xml.cc). Document type declarations, other encodings than UTF-8, deep nesting and oversized
// documents are refused; unknown elements are ignored, as stock peers do.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace culvert::wire {

inline constexpr size_t kMaxXmlBytes = 256 * 1024;
inline constexpr size_t kMaxXmlDepth = 32;

// What a client posts. Every text is at most 1024 bytes (longer ones are refused) and unescaped:
// treat it as hostile.
struct LoginRequest {
  enum class Kind { kInit, kAuthReply };
  Kind kind = Kind::kInit;
  std::string version;       // of the client program
  std::string device_id;     // "linux-64", "win", "android", …
  std::string group_access;  // the URL that the user gave
  std::string group_select;
  std::string opaque;  // text of the opaque element we sent before
  bool client_certificate_failed = false;
  struct Answer {
    std::string name;
    std::string value;  // may be a password: never log it
  };
  std::vector<Answer> answers;  // children of auth, in order, at most 32
};

// An empty body is an init: ocserv takes it, too. Fails on anything but a config-auth document of
// type init or auth-reply.
Result<LoginRequest> parse_login_request(std::string_view body);

// Server: "you are in". The cookie travels in Set-Cookie beside it.
[[nodiscard]] std::string write_complete(std::string_view banner = {});
// Server: the final refusal, both texts are shown by stock clients. Answer it with status 200: any
// other makes them retry in their legacy mode.
[[nodiscard]] std::string write_failure(std::string_view message, std::string_view error);
// Client: the first document. `url` is what the user gave ("https://vpn.example.com/").
[[nodiscard]] std::string write_init(std::string_view url, std::string_view version);

struct LoginInput {
  enum class Type { kText, kPassword, kHidden, kSelect, kOther };
  Type type = Type::kText;
  std::string name;  // of an XML element, at most 64 bytes
  std::string label;
  std::string value;                 // hidden: to be sent back
  std::vector<std::string> options;  // select: the values to choose from, the selected one first
};

struct LoginForm {
  std::string action;  // empty: not said
  std::vector<LoginInput> inputs;
  bool confirmation = false;  // authentication-complete: no fields, but to be posted all the same
};

// What a server answers. Texts are as sent: escape before showing.
struct LoginResponse {
  enum class Kind {
    kSuccess,
    kForm,                  // more is asked: `form`
    kFailure,               // no form and no success: the login is over
    kCertificateRequested,  // "log in with a TLS client certificate"
  };
  Kind kind = Kind::kFailure;
  std::string auth_id;
  std::string banner;
  std::string message;
  std::string error;
  LoginForm form;
  std::string session_token;  // instead of the cookie webvpn, if not empty
  std::string opaque_xml;     // the opaque element, verbatim, for the next auth-reply
};

Result<LoginResponse> parse_login_response(std::string_view body);

// What a client says to a form.
struct LoginReply {
  std::string version;  // of the client program
  std::string opaque_xml;
  std::vector<LoginRequest::Answer> answers;  // to the fields of a form, by their names
};
// Some fields travel under another name or not at all, as stock servers expect. The text holds what
// the answers hold: wipe it after use. REQUIRES: names as in LoginInput.
[[nodiscard]] std::string write_auth_reply(const LoginReply& reply);

}  // namespace culvert::wire
