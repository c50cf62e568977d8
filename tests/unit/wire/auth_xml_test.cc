#include "common/wire/auth_xml.h"

#include <gtest/gtest.h>

namespace culvert::wire {
namespace {

constexpr std::string_view kOpenconnectInit =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
    "<config-auth client=\"vpn\" type=\"init\" aggregate-auth-version=\"2\">"
    "<version who=\"vpn\">v9.01</version><device-id>linux-64</device-id>"
    "<capabilities><auth-method>single-sign-on-v2</auth-method></capabilities>"
    "<group-access>https://server:4443/grp</group-access></config-auth>";

TEST(LoginRequest, ReadsOpenconnectsInit) {
  const auto request = parse_login_request(kOpenconnectInit);
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_EQ(request->kind, LoginRequest::Kind::kInit);
  EXPECT_EQ(request->version, "v9.01");
  EXPECT_EQ(request->device_id, "linux-64");
  EXPECT_EQ(request->group_access, "https://server:4443/grp");
  EXPECT_FALSE(request->client_certificate_failed);
  EXPECT_TRUE(request->answers.empty());
}

TEST(LoginRequest, ReadsAnAuthReply) {
  const auto request = parse_login_request(
      "<config-auth client='vpn' type='auth-reply'><opaque is-for='sg'>state</opaque>"
      "<auth><username>alice</username><password> p&lt;&amp;&#228; </password></auth>"
      "<group-select>grpA</group-select></config-auth>");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->kind, LoginRequest::Kind::kAuthReply);
  EXPECT_EQ(request->opaque, "state");
  EXPECT_EQ(request->group_select, "grpA");
  ASSERT_EQ(request->answers.size(), 2U);
  EXPECT_EQ(request->answers[0].name, "username");
  EXPECT_EQ(request->answers[1].value, " p<&\xc3\xa4 ");
}

TEST(LoginRequest, AnEmptyBodyIsAnInit) {
  EXPECT_EQ(parse_login_request("")->kind, LoginRequest::Kind::kInit);
  EXPECT_EQ(parse_login_request(" \r\n")->kind, LoginRequest::Kind::kInit);
}

TEST(LoginRequest, SeesThatTheCertificateWasNotUsed) {
  const auto request =
      parse_login_request("<config-auth type='init'><client-cert-fail/></config-auth>");
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->client_certificate_failed);
}

TEST(LoginRequest, RefusesWhatIsNoLoginDocument) {
  const std::string deep = [] {
    std::string open, close;
    for (int i = 0; i < 40; ++i)
      open += "<a>", close += "</a>";
    return "<config-auth type='init'>" + open + close + "</config-auth>";
  }();
  std::string many = "<config-auth type='auth-reply'><auth>";
  for (int i = 0; i < 33; ++i)
    many += "<a/>";
  many += "</auth></config-auth>";
  const std::string long_text(1025, 'a');
  for (const std::string& body : {
           std::string("username=alice&password=x"),
           std::string("<html/>"),
           std::string("<config-auth/>"),
           std::string("<config-auth type='complete'/>"),
           std::string("<config-auth type='init'>"),
           std::string("<!DOCTYPE a [<!ENTITY b 'c'>]><config-auth type='init'/>"),
           std::string("\xff\xfe<\0", 4),
           deep,
           many,
           "<config-auth type='init'><version>" + long_text + "</version></config-auth>",
           "<config-auth type='auth-reply'><auth><p>" + long_text + "</p></auth></config-auth>",
           std::string(300 * 1024, ' ') + "x",
       })
    EXPECT_FALSE(parse_login_request(body)) << body.substr(0, 80);
}

TEST(LoginDocuments, CompleteIsWhatStockClientsNeed) {
  EXPECT_EQ(write_complete(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
            "<config-auth client=\"vpn\" type=\"complete\"><auth id=\"success\">"
            "<title>SSL VPN Service</title></auth></config-auth>");
}

TEST(LoginDocuments, FailureCarriesBothTextsEscaped) {
  const std::string text = write_failure("a <b> & \"c\"", "bad\x1b[2J\xff");
  EXPECT_NE(text.find("<auth id=\"failure\">"), std::string::npos);
  EXPECT_NE(text.find("<message>a &lt;b&gt; &amp; \"c\"</message>"), std::string::npos) << text;
  EXPECT_NE(text.find("<error>bad [2J?</error>"), std::string::npos) << text;
  EXPECT_EQ(text.find("<form"), std::string::npos);
  const auto response = parse_login_response(text);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->kind, LoginResponse::Kind::kFailure);
  EXPECT_EQ(response->message, "a <b> & \"c\"");
}

TEST(LoginDocuments, InitIsReadByOurServerAndHidesNoPassword) {
  const std::string text = write_init("https://vpn.example.com/?a&b", "v1");
  const auto request = parse_login_request(text);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->kind, LoginRequest::Kind::kInit);
  EXPECT_EQ(request->group_access, "https://vpn.example.com/?a&b");
  EXPECT_EQ(request->version, "v1");
  // ocserv looks for these by substring search.
  for (const char* word : {"username", "password", "group-select"})
    EXPECT_EQ(text.find(word), std::string::npos) << word;
}

TEST(LoginResponse, ReadsOcservsCompletion) {
  const auto response = parse_login_response(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"complete\">"
      "<version who=\"sg\">0.1(1)</version><auth id=\"success\"><banner>Hi</banner>"
      "<title>SSL VPN Service</title></auth></config-auth>");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->kind, LoginResponse::Kind::kSuccess);
  EXPECT_EQ(response->banner, "Hi");
  EXPECT_TRUE(response->session_token.empty());
}

TEST(LoginResponse, OnlyTheAuthIdMakesSuccess) {
  EXPECT_EQ(parse_login_response("<auth id='success'/>")->kind, LoginResponse::Kind::kSuccess);
  EXPECT_EQ(
      parse_login_response("<config-auth type='complete'><auth id='other'/></config-auth>")->kind,
      LoginResponse::Kind::kFailure);
}

TEST(LoginResponse, ReadsASessionToken) {
  EXPECT_EQ(parse_login_response("<config-auth><session-token>ab</session-token>"
                                 "<auth id='success'/></config-auth>")
                ->session_token,
            "ab");
}

TEST(LoginResponse, ReadsAForm) {
  const auto response = parse_login_response(
      "<config-auth client='vpn' type='auth-request'><opaque is-for='sg'><a b='c'>d</a></opaque>"
      "<auth id='main'><message>Enter %s for %s</message><form method='post' action='/auth'>"
      "<input type='text' name='username' label='Username:'/>"
      "<input type='password' name='password'/><input type='hidden' name='h' value='v'/>"
      "<input type='submit' name='s'/><input type='text'/><unknown name='x'/>"
      "<select name='group_list'><option value='a'>A</option><option>B</option></select>"
      "</form></auth></config-auth>");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->kind, LoginResponse::Kind::kForm);
  EXPECT_EQ(response->form.action, "/auth");
  EXPECT_EQ(response->opaque_xml, "<opaque is-for=\"sg\"><a b=\"c\">d</a></opaque>");
  const auto& inputs = response->form.inputs;
  ASSERT_EQ(inputs.size(), 4U);
  EXPECT_EQ(inputs[0].label, "Username:");
  EXPECT_EQ(inputs[1].type, LoginInput::Type::kPassword);
  EXPECT_EQ(inputs[2].value, "v");
  EXPECT_EQ(inputs[3].options, (std::vector<std::string>{"a", "B"}));
}

TEST(LoginResponse, TheSelectedOptionComesFirst) {
  const auto response = parse_login_response(
      "<auth id='main'><form><select name='group_list'><option>a</option>"
      "<option selected='true'>b</option><option>c</option></select></form></auth>");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->form.inputs[0].options, (std::vector<std::string>{"b", "a", "c"}));
}

TEST(LoginResponse, TellsAFormWithoutFieldsFromOneToConfirm) {
  const auto empty = parse_login_response("<auth id='main'><form/></auth>");
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->kind, LoginResponse::Kind::kForm);
  EXPECT_FALSE(empty->form.confirmation);
  const auto confirm = parse_login_response("<auth id='main'><authentication-complete/></auth>");
  ASSERT_TRUE(confirm);
  EXPECT_EQ(confirm->kind, LoginResponse::Kind::kForm);
  EXPECT_TRUE(confirm->form.confirmation);
}

TEST(LoginResponse, RefusesFieldsThatMakeNoElement) {
  for (const char* name : {"a b", "1st", "x&gt;y", "&#xe4;", "a:b", "-"}) {
    const std::string body =
        std::string("<auth id='main'><form><input type='text' name='") + name + "'/></form></auth>";
    EXPECT_FALSE(parse_login_response(body)) << name;
  }
}

TEST(LoginReply, IsReadByOurServer) {
  const std::string text = write_auth_reply(
      {"v1",
       "<opaque is-for=\"sg\"><a b=\"c\">d</a></opaque>",
       {{"username", "alice"}, {"password", "a <b> & \"c\" \xc3\xa4 "}, {"h", ""}}});
  const auto request = parse_login_request(text);
  ASSERT_TRUE(request) << request.error().message();
  EXPECT_EQ(request->kind, LoginRequest::Kind::kAuthReply);
  ASSERT_EQ(request->answers.size(), 3U);
  EXPECT_EQ(request->answers[0].value, "alice");
  EXPECT_EQ(request->answers[1].value, "a <b> & \"c\" \xc3\xa4 ") << "to the last space";
  EXPECT_EQ(request->answers[2].name, "h");
  EXPECT_NE(text.find("<opaque is-for=\"sg\"><a b=\"c\">d</a></opaque>"), std::string::npos);
  EXPECT_LT(text.find("<opaque"), text.find("<auth>"));
}

TEST(LoginReply, RenamesAndDropsFieldsAsStockServersExpect) {
  const std::string text = write_auth_reply({"v1",
                                             {},
                                             {{"group_list", "staff"},
                                              {"answer", "1"},
                                              {"whichpin", "2"},
                                              {"new_password", "3"},
                                              {"verify_pin", "4"},
                                              {"verify_password", "5"}}});
  const auto request = parse_login_request(text);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->group_select, "staff");
  std::string answers;
  for (const auto& answer : request->answers)
    answers += answer.name + "=" + answer.value + " ";
  EXPECT_EQ(answers, "password=1 password=2 password=3 ");
}

TEST(LoginResponse, PutsParametersIntoTexts) {
  const auto response = parse_login_response(
      "<auth id='main'><message param1='%s1' param2='2'>a %s b %s c %s</message></auth>");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->message, "a %s1 b 2 c %s");
}

TEST(LoginResponse, TellsFailureFromACertificateRequest) {
  const auto failure = parse_login_response(
      "<config-auth><auth id='failure'><message>m</message></auth><error>e</error></config-auth>");
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->kind, LoginResponse::Kind::kFailure);
  EXPECT_EQ(failure->message, "m");
  EXPECT_EQ(failure->error, "e");
  EXPECT_EQ(parse_login_response("<config-auth><client-cert-request/></config-auth>")->kind,
            LoginResponse::Kind::kCertificateRequested);
}

TEST(LoginResponse, RefusesWhatIsNoAnswer) {
  for (const char* body : {"", "<html><body>It works!</body></html>", "not xml", "<config-auth/>",
                           "<auth id='main'><form method='get'><input name='a'/></form></auth>"})
    EXPECT_FALSE(parse_login_response(body)) << body;
}

}  // namespace
}  // namespace culvert::wire
