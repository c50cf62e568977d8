#include "common/wire/auth_xml.h"

#include <algorithm>
#include <utility>

#include <pugixml.hpp>

#include "common/base/text.h"
#include "common/wire/http_exchange.h"

namespace culvert::wire {
namespace {

constexpr size_t kMaxText = 1024;
constexpr size_t kMaxAnswers = 32;
constexpr size_t kMaxInputs = 32;
constexpr size_t kMaxOptions = 256;
constexpr size_t kMaxName = 64;

Error bad_document(std::string what) {
  return fail(ErrorCode::kFailure, std::move(what), "login document");
}

// Looks for what we don't read: depth, and document types (which pugixml keeps as plain text; it
// knows no entities of its own, but nobody has a reason to send one).
class Inspector final : public pugi::xml_tree_walker {
 public:
  bool acceptable = true;

 private:
  bool for_each(pugi::xml_node& node) override {
    acceptable = depth() < static_cast<int>(kMaxXmlDepth) && node.type() != pugi::node_doctype;
    return acceptable;
  }
};

Status load(pugi::xml_document& document, std::string_view body) {
  if (body.size() > kMaxXmlBytes) return bad_document("the document is too long");
  const auto parsed = document.load_buffer(
      body.data(), body.size(), pugi::parse_default | pugi::parse_doctype, pugi::encoding_utf8);
  if (!parsed) return bad_document(std::string("not XML: ") + parsed.description());
  Inspector inspector;
  document.traverse(inspector);
  if (!inspector.acceptable) return bad_document("document type, or nested too deep");
  return {};
}

std::string trimmed(pugi::xml_node node) {
  return std::string(trim(node.child_value()));
}
std::string attribute(pugi::xml_node node, const char* name) {
  return node.attribute(name).as_string();
}

// ---- requests ----

Status read_answers(pugi::xml_node auth, LoginRequest& request) {
  for (const pugi::xml_node field : auth.children()) {
    if (field.type() != pugi::node_element) continue;
    if (request.answers.size() == kMaxAnswers) return bad_document("too many answers");
    request.answers.push_back({field.name(), field.child_value()});
    const auto& answer = request.answers.back();
    if (answer.name.size() > kMaxText || answer.value.size() > kMaxText)
      return bad_document("an answer is too long");
  }
  return {};
}

// ---- responses ----

// openconnect puts param1 and param2 in place of the first two %s of a text.
std::string with_params(pugi::xml_node node) {
  std::string text = trimmed(node);
  size_t from = 0;
  for (const char* param : {"param1", "param2"}) {
    const size_t at = text.find("%s", from);
    if (at == std::string::npos) break;
    const std::string value = attribute(node, param);
    text.replace(at, 2, value);
    from = at + value.size();
  }
  return text;
}

std::optional<LoginInput::Type> input_type(std::string_view type) {
  if (type == "text") return LoginInput::Type::kText;
  if (type == "password") return LoginInput::Type::kPassword;
  if (type == "hidden") return LoginInput::Type::kHidden;
  if (type == "submit" || type == "reset") return std::nullopt;
  return LoginInput::Type::kOther;
}

std::vector<std::string> read_options(pugi::xml_node select) {
  std::vector<std::string> options;
  for (const pugi::xml_node option : select.children("option")) {
    if (options.size() == kMaxOptions) break;
    const std::string value = attribute(option, "value");
    options.push_back(value.empty() ? trimmed(option) : value);
    if (option.attribute("selected").as_bool())
      std::rotate(options.begin(), options.end() - 1, options.end());
  }
  return options;
}

// The answer is an element of this name.
bool is_element_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !name.empty() && name.size() <= kMaxName && (letter(name[0]) || name[0] == '_') &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
         });
}

// Nothing for what needs no answer: buttons, unknown elements, fields without a name.
std::optional<LoginInput> read_input(pugi::xml_node node) {
  const std::string_view element = node.name();
  LoginInput input;
  input.name = attribute(node, "name");
  input.label = attribute(node, "label");
  if (input.name.empty()) return std::nullopt;
  if (element == "select") {
    input.type = LoginInput::Type::kSelect;
    input.options = read_options(node);
    return input;
  }
  const auto type = input_type(attribute(node, "type"));
  if (element != "input" || !type) return std::nullopt;
  input.type = *type;
  input.value = attribute(node, "value");
  return input;
}

Result<LoginForm> read_form(pugi::xml_node node) {
  const std::string method = attribute(node, "method");
  if (!method.empty() && !iequals(method, "POST"))
    return bad_document("the server asks for a form to be sent by another method than POST");
  LoginForm form;
  form.action = attribute(node, "action");
  for (const pugi::xml_node child : node.children()) {
    auto input = read_input(child);
    if (!input) continue;
    if (form.inputs.size() == kMaxInputs) return bad_document("the form has too many fields");
    if (!is_element_name(input->name))
      return bad_document("the form has a field whose name makes no element");
    form.inputs.push_back(std::move(*input));
  }
  return form;
}

// ---- writing ----

struct StringWriter final : pugi::xml_writer {
  std::string text;
  void write(const void* data, size_t size) override {
    text.append(static_cast<const char*>(data), size);
  }
};

std::string print(const pugi::xml_node& node) {
  StringWriter writer;
  node.print(writer, "", pugi::format_raw, pugi::encoding_utf8);
  return std::move(writer.text);
}

// XML 1.0 has no control characters but tab and line ends, and no invalid UTF-8, not even escaped.
std::string xml_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    out += '?';
    text.remove_prefix(1);
  }
  std::replace_if(
      out.begin(), out.end(),
      [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f; }, ' ');
  return out;
}

void append_text(pugi::xml_node parent, const char* name, std::string_view text) {
  parent.append_child(name).text().set(xml_text(text).c_str());
}

pugi::xml_node start_document(pugi::xml_document& document, const char* type) {
  pugi::xml_node declaration = document.append_child(pugi::node_declaration);
  declaration.append_attribute("version") = "1.0";
  declaration.append_attribute("encoding") = "UTF-8";
  pugi::xml_node root = document.append_child("config-auth");
  root.append_attribute("client") = "vpn";
  root.append_attribute("type") = type;
  return root;
}

// Nothing: the field is not sent.
const char* name_in_reply(const std::string& field) {
  if (field == "verify_pin" || field == "verify_password") return nullptr;
  if (field == "answer" || field == "whichpin" || field == "new_password") return "password";
  return field.c_str();
}

pugi::xml_node append_auth(pugi::xml_node root, const char* id) {
  pugi::xml_node auth = root.append_child("auth");
  auth.append_attribute("id") = id;
  append_text(auth, "title", "SSL VPN Service");
  return auth;
}

}  // namespace

Result<LoginRequest> parse_login_request(std::string_view body) {
  LoginRequest request;
  if (trim(body).empty()) return request;
  pugi::xml_document document;
  if (auto status = load(document, body); !status) return status.error();
  const pugi::xml_node root = document.child("config-auth");
  const std::string type = attribute(root, "type");
  if (type != "init" && type != "auth-reply")
    return bad_document("neither an init nor an auth-reply");
  request.kind = type == "init" ? LoginRequest::Kind::kInit : LoginRequest::Kind::kAuthReply;
  request.version = trimmed(root.child("version"));
  request.device_id = trimmed(root.child("device-id"));
  request.group_access = trimmed(root.child("group-access"));
  request.group_select = trimmed(root.child("group-select"));
  request.opaque = trimmed(root.child("opaque"));
  request.client_certificate_failed = !root.child("client-cert-fail").empty();
  for (const std::string* text : {&request.version, &request.device_id, &request.group_access,
                                  &request.group_select, &request.opaque})
    if (text->size() > kMaxText) return bad_document("a text is too long");
  if (auto status = read_answers(root.child("auth"), request); !status) return status.error();
  return request;
}

std::string write_complete(std::string_view banner) {
  pugi::xml_document document;
  pugi::xml_node auth = append_auth(start_document(document, "complete"), "success");
  if (!banner.empty()) append_text(auth, "banner", banner);
  return print(document);
}

std::string write_failure(std::string_view message, std::string_view error) {
  pugi::xml_document document;
  pugi::xml_node auth = append_auth(start_document(document, "auth-request"), "failure");
  append_text(auth, "message", message);
  append_text(auth, "error", error);
  return print(document);
}

std::string write_auth_reply(const LoginReply& reply) {
  pugi::xml_document document;
  pugi::xml_node root = start_document(document, "auth-reply");
  root.append_attribute("aggregate-auth-version") = "2";
  append_text(root, "version", reply.version);
  root.child("version").append_attribute("who") = "vpn";
  append_text(root, "device-id", "linux-64");
  if (!reply.opaque_xml.empty()) {
    pugi::xml_document opaque;
    if (opaque.load_buffer(reply.opaque_xml.data(), reply.opaque_xml.size(), pugi::parse_default,
                           pugi::encoding_utf8))
      root.append_copy(opaque.document_element());
  }
  pugi::xml_node auth = root.append_child("auth");
  for (const LoginRequest::Answer& answer : reply.answers) {
    if (answer.name == "group_list")
      append_text(root, "group-select", answer.value);
    else if (const char* name = name_in_reply(answer.name); name != nullptr)
      append_text(auth, name, answer.value);
  }
  return print(document);
}

std::string write_init(std::string_view url, std::string_view version) {
  pugi::xml_document document;
  pugi::xml_node root = start_document(document, "init");
  root.append_attribute("aggregate-auth-version") = "2";
  append_text(root, "version", version);
  root.child("version").append_attribute("who") = "vpn";
  append_text(root, "device-id", "linux-64");
  append_text(root, "group-access", url);
  return print(document);
}

Result<LoginResponse> parse_login_response(std::string_view body) {
  using Kind = LoginResponse::Kind;
  pugi::xml_document document;
  if (auto status = load(document, body); !status) return status.error();
  const pugi::xml_node root = document.child("config-auth");
  const pugi::xml_node auth = root ? root.child("auth") : document.child("auth");
  LoginResponse response;
  response.auth_id = attribute(auth, "id");
  response.banner = with_params(auth.child("banner"));
  response.message = with_params(auth.child("message"));
  response.error = with_params(auth.child("error") ? auth.child("error") : root.child("error"));
  response.session_token = trimmed(root.child("session-token"));
  if (const auto opaque = root.child("opaque")) response.opaque_xml = print(opaque);
  if (response.auth_id == "success") {
    response.kind = Kind::kSuccess;
  } else if (root.child("client-cert-request")) {
    response.kind = Kind::kCertificateRequested;
  } else if (const auto node = auth.child("form")) {
    auto form = read_form(node);
    if (!form) return form.error();
    response.form = std::move(*form);
    response.kind = Kind::kForm;
  } else if (auth.child("authentication-complete")) {
    response.kind = Kind::kForm;
    response.form.confirmation = true;
  } else if (!auth) {
    return bad_document("no auth element");
  }
  return response;
}

}  // namespace culvert::wire
