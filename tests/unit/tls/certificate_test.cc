// What is read in certificates that others made: the names that users may be called by.
#include "common/tls/certificate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/tls/openssl.h"

namespace culvert::tls {
namespace {

using Names = std::vector<std::string>;
using Attributes = std::vector<std::pair<std::string, std::string>>;

// A self-signed certificate with this subject and subjectAltName, as the openssl program makes it.
class ForeignCertificate : public testing::Test {
 protected:
  void SetUp() override {
    if (!OpenSsl::available()) GTEST_SKIP() << "no openssl program here";
  }

  CertificateInfo read(const std::string& subject, const std::string& alternative_names,
                       const std::string& more = {}) {
    openssl_.write(
        "c.cnf",
        "[req]\ndistinguished_name = dn\nx509_extensions = v3\nprompt = no\n"
        "string_mask = utf8only\n[dn]\n" +
            subject + "\n[v3]\nbasicConstraints = CA:FALSE\n" +
            (alternative_names.empty() ? std::string() : "subjectAltName = " + alternative_names) +
            "\n" + more);
    EXPECT_EQ(openssl_.run("req -x509 -utf8 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                           "-keyout c.key -days 30 -config c.cnf -out c.crt"),
              0)
        << openssl_.output();
    auto info = read_certificate(openssl_.read("c.crt"));
    EXPECT_TRUE(info) << info.error().message();
    return info ? *info : CertificateInfo();
  }

  OpenSsl openssl_;
};

TEST_F(ForeignCertificate, EveryTextOfTheSubjectIsThereInItsOrder) {
  // The order and the parts of easy-rsa's "org" mode.
  const CertificateInfo info = read(
      "C = DE\nST = Bayern\nL = Nürnberg\nO = Example AG\n0.OU = VPN\n1.OU = second\nCN = alice\n"
      "name = EasyRSA\nemailAddress = alice@example.com\nUID = al",
      "");
  const Attributes expected = {
      {"C", "DE"},   {"ST", "Bayern"}, {"L", "Nürnberg"}, {"O", "Example AG"},
      {"OU", "VPN"}, {"OU", "second"}, {"CN", "alice"},   {"emailAddress", "alice@example.com"},
      {"uid", "al"}};
  EXPECT_EQ(info.attributes, expected) << "what has no short name (2.5.4.41) is left out";
  EXPECT_EQ(info.common_name, "alice");
  EXPECT_EQ(info.organizational_unit, "VPN");
  EXPECT_TRUE(info.emails.empty()) << "an address in the subject is an attribute";
}

TEST_F(ForeignCertificate, EmailsAndPrincipalNamesAreReadInTheirOrder) {
  const CertificateInfo info =
      read("CN = x",
           "email:a@example.com, DNS:host.example, "
           "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:one@corp.example, email:b@example.com, "
           "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:two@corp.example, URI:https://example.com/");
  EXPECT_EQ(info.emails, (Names{"a@example.com", "b@example.com"}));
  EXPECT_EQ(info.principal_names, (Names{"one@corp.example", "two@corp.example"}));
  EXPECT_EQ(info.dns_names, Names{"host.example"});
}

// An otherName can be anything: what is no user principal name must not become somebody's name.
TEST_F(ForeignCertificate, OtherNamesOfAnotherKindAreNoPrincipalNames) {
  for (const char* name :
       {"otherName:1.3.6.1.4.1.311.20.2.4;UTF8:root@corp.example",    // another type
        "otherName:1.3.6.1.4.1.311.20.2.3.1;UTF8:root@corp.example",  // a longer one
        "otherName:1.3.6.1.4.1.311.20.2;UTF8:root@corp.example",      // a shorter one
        "otherName:1.3.6.1.5.5.7.8.5;UTF8:root@corp.example",         // an XMPP address
        "otherName:1.3.6.1.4.1.311.20.2.3;IA5:root@corp.example",     // not as Microsoft writes it
        "otherName:1.3.6.1.4.1.311.20.2.3;INTEGER:7", "otherName:1.3.6.1.4.1.311.20.2.3;NULL"}) {
    const CertificateInfo info = read("CN = x", name);
    EXPECT_TRUE(info.principal_names.empty()) << name;
    EXPECT_EQ(info.common_name, "x") << name;
  }
}

TEST_F(ForeignCertificate, AnOtherNameWithLyingLengthsIsNoName) {
  // The value of the explicit tag claims more bytes than there are: a SEQUENCE in which a length
  // was changed after it was signed, so it is read, not verified.
  const std::string principal = "otherName:1.3.6.1.4.1.311.20.2.3;UTF8:abcdefghij";
  read("CN = x", principal);
  ASSERT_EQ(openssl_.run("x509 -in c.crt -outform DER -out c.der"), 0);
  const std::string der = openssl_.read("c.der");
  const size_t text = der.find("abcdefghij");
  ASSERT_NE(text, std::string::npos);
  // ... A0 0C 0C 0A "abcdefghij"
  ASSERT_EQ(der[text - 1], 10);
  for (const size_t at : {text - 1, text - 3}) {
    for (const int length : {0x0b, 0x0d, 0x7f, 0x81, 0x84, 0xff}) {
      std::string changed = der;
      changed[at] = static_cast<char>(length);
      const auto info = read_certificate_der(as_bytes(changed));
      if (info) {
        for (const std::string& name : info->principal_names)
          EXPECT_LE(name.size(), 10u) << "bytes from behind the name";
      }
    }
  }
}

// A name that somebody may write in the configuration must be one that can be found.
TEST_F(ForeignCertificate, EveryAttributeThatIsNamedIsFound) {
  std::string subject;
  for (const std::string_view name : attribute_names()) {
    const std::string label = name == "uid" ? "UID" : std::string(name);
    subject += label + " = " + (name == "C" ? "DE" : "v-" + std::string(name)) + "\n";
  }
  const CertificateInfo info = read(subject, "");
  for (const std::string_view name : attribute_names()) {
    const bool found = std::any_of(info.attributes.begin(), info.attributes.end(),
                                   [&](const auto& entry) { return entry.first == name; });
    EXPECT_TRUE(found) << name;
  }
  EXPECT_EQ(info.attributes.size(), attribute_names().size());
}

}  // namespace
}  // namespace culvert::tls
