// TlsConfig::build(): what it refuses, and that it says which piece is bad and why.

#include "common/tls/tls_config.h"

#include <gtest/gtest.h>

#include "tests/unit/tls/pki.h"

namespace culvert::tls {
namespace {

struct Material {
  Identity ca = make_ca("Test CA");
  Identity other_ca = make_ca("Other CA");
  Identity server = make_server(ca, {"vpn.example.com"});
  Identity client = make_client(ca, "alice");
};

TlsOptions options_of(const Material& m) {
  TlsOptions options;
  options.role = Role::kServer;
  options.certificate_chain_pem = m.server.certificate;
  options.private_key_pem = m.server.key.clone();
  options.trusted_ca_pem = m.ca.certificate;
  options.crl_pem = make_crl(m.ca, {});
  options.crl_required = true;
  return options;
}

TEST(TlsConfig, ShowsWhatItWasBuiltFrom) {
  const Material m;
  const auto config = TlsConfig::build(options_of(m));
  ASSERT_TRUE(config.has_value()) << config.error().message();
  EXPECT_EQ(Role::kServer, (*config)->role());
  EXPECT_EQ("CN=server", (*config)->own_certificate().subject);
  ASSERT_EQ(1u, (*config)->trusted_cas().size());
  EXPECT_EQ("CN=Test CA", (*config)->trusted_cas()[0].subject);
  ASSERT_EQ(1u, (*config)->crls().size());
  EXPECT_EQ("CN=Test CA", (*config)->crls()[0].issuer);
}

TEST(TlsConfig, OfAClientMayBeWithoutACertificate) {
  const Material m;
  TlsOptions options;
  options.trusted_ca_pem = m.ca.certificate;
  const auto config = TlsConfig::build(options);
  ASSERT_TRUE(config.has_value());
  EXPECT_FALSE((*config)->has_own_certificate());
}

TEST(TlsConfig, NamesTheBadPieceAndWhatIsWrong) {
  struct Row {
    const char* what;
    void (*spoil)(TlsOptions&, const Material&);
    const char* where;
    const char* text;
  };
  const Row table[] = {
      {"nothing",
       [](TlsOptions& o, const Material&) {
         o.certificate_chain_pem.clear();
         o.private_key_pem = Secret();
       },
       "certificate", "a server needs a certificate"},
      {"no certificate", [](TlsOptions& o, const Material&) { o.certificate_chain_pem = "x"; },
       "certificate", "no certificate in it"},
      {"broken certificate",
       [](TlsOptions& o, const Material&) {
         o.certificate_chain_pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
       },
       "certificate", "certificate"},
      {"broken second certificate",
       [](TlsOptions& o, const Material&) {
         o.certificate_chain_pem +=
             "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
       },
       "certificate", "cannot be read"},
      {"no key", [](TlsOptions& o, const Material&) { o.private_key_pem = Secret(); },
       "private key", "no private key"},
      {"certificate for key",
       [](TlsOptions& o, const Material& m) {
         o.private_key_pem = Secret(as_bytes(m.server.certificate));
       },
       "private key", "no private key"},
      {"another's key",
       [](TlsOptions& o, const Material& m) { o.private_key_pem = m.client.key.clone(); },
       "private key", "does not belong to the certificate of CN=server"},
      {"encrypted key",
       [](TlsOptions& o, const Material&) {
         o.private_key_pem = Secret(as_bytes("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
       },
       "private key", "encrypted"},
      {"client certificate",
       [](TlsOptions& o, const Material& m) {
         o.certificate_chain_pem = m.client.certificate;
         o.private_key_pem = m.client.key.clone();
       },
       "certificate", "not a certificate for TLS servers"},
      {"no CA", [](TlsOptions& o, const Material&) { o.trusted_ca_pem.clear(); }, "trusted CA",
       "no certificate in it"},
      {"no CRL", [](TlsOptions& o, const Material&) { o.crl_pem = "x"; }, "CRL",
       "no certificate revocation list in it"},
      {"broken CRL",
       [](TlsOptions& o, const Material&) {
         o.crl_pem = "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n";
       },
       "CRL", "cannot read"},
      {"another CA's CRL",
       [](TlsOptions& o, const Material& m) { o.crl_pem = make_crl(m.other_ca, {}); }, "CRL",
       "the revocation list of CN=Other CA belongs to no trusted CA"},
      {"CRL of an impostor",
       [](TlsOptions& o, const Material&) { o.crl_pem = make_crl(make_ca("Test CA"), {}); }, "CRL",
       "is not signed by the trusted CA of that name"},
      {"one good and one bad CRL",
       [](TlsOptions& o, const Material& m) { o.crl_pem += make_crl(m.other_ca, {}); }, "CRL",
       "CN=Other CA"},
  };
  const Material m;
  for (const Row& row : table) {
    TlsOptions options = options_of(m);
    row.spoil(options, m);
    const auto config = TlsConfig::build(options);
    ASSERT_FALSE(config.has_value()) << row.what;
    EXPECT_EQ(ErrorCode::kUsage, config.error().code) << row.what;
    EXPECT_EQ(row.where, config.error().where) << row.what;
    EXPECT_NE(std::string::npos, config.error().what.find(row.text)) << config.error().message();
  }
}

TEST(TlsConfig, ExpiredOwnCertificateIsReadNotRefused) {
  Material m;
  m.server = make_server(m.ca, {"x"}, [](IssueRequest& r) { r.not_after = days_from_now(-1); });
  const auto config = TlsConfig::build(options_of(m));
  ASSERT_TRUE(config.has_value());
  EXPECT_LT((*config)->own_certificate().not_after, wall_now());
}

}  // namespace
}  // namespace culvert::tls
