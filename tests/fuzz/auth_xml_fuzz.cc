// Login documents, as server and client read them; and any text must survive being written.
#include "common/wire/auth_xml.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body = as_text(fuzz::input(data, size));
  if (const auto request = wire::parse_login_request(body))
    require(request->answers.size() <= 32 && request->group_access.size() <= 1024,
            "texts are bounded");
  if (const auto response = wire::parse_login_response(body)) {
    require(response->form.inputs.size() <= 32, "fields are bounded");
    wire::LoginReply reply{"v1", response->opaque_xml, {}};
    for (const wire::LoginInput& input : response->form.inputs)
      reply.answers.push_back({input.name, input.value.substr(0, 500)});
    require(wire::parse_login_response(wire::write_auth_reply(reply)).has_value(),
            "a reply to any form is a document");
  }

  const auto failure = wire::parse_login_response(wire::write_failure(body, body));
  require(failure && failure->kind == wire::LoginResponse::Kind::kFailure &&
              failure->auth_id == "failure",
          "a refusal stays one, whatever its text");
  const auto complete = wire::parse_login_response(wire::write_complete(body));
  require(complete && complete->kind == wire::LoginResponse::Kind::kSuccess,
          "success stays success, whatever the banner");
  const auto init = wire::parse_login_request(wire::write_init(body.substr(0, 500), "v1"));
  require(init && init->kind == wire::LoginRequest::Kind::kInit && init->device_id == "linux-64",
          "an init can be read");
  return 0;
}
