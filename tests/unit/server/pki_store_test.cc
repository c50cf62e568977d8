#include "server/pki_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "common/base/file.h"
#include "common/tls/issue.h"
#include "common/tls/tls_config.h"
#include "server/new_files.h"
#include "tests/unit/server/temporary_dir.h"

namespace culvert::server {
namespace {

using std::chrono::days;
using std::chrono::hours;

// A whole second in the past, so that certificates made here are valid for TlsConfig as well. The
// same for the whole run.
WallTime some_time() {
  static const WallTime time = wall_now() - hours(2);
  return time;
}

ServerNames some_names() {
  ServerNames names;
  names.common_name = "vpn.example.com";
  names.add("vpn.example.com");
  names.add("192.0.2.1");
  return names;
}

class PkiStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto pki = make_pki(some_names(), some_time());
    ASSERT_TRUE(pki) << pki.error().message();
    pki_ = std::move(*pki);
    ASSERT_TRUE(create_file(dir_ / "ca.crt", pki_.ca_certificate));
    ASSERT_TRUE(create_file(dir_ / "ca.key", as_text(pki_.ca_key.bytes())));
    ASSERT_TRUE(create_file(dir_ / "ca.crl", pki_.crl));
  }
  PkiStore open() {
    auto store = PkiStore::open(dir_.path());
    EXPECT_TRUE(store) << store.error().message();
    return std::move(*store);
  }
  UserCredentials issue(const PkiStore& store, const std::string& user, unsigned valid_days = 30) {
    auto made = store.issue({.name = user, .group = "staff", .days = valid_days, .server = {}},
                            some_time());
    EXPECT_TRUE(made) << made.error().message();
    return std::move(*made);
  }

  TemporaryDir dir_;
  NewPki pki_;
};

TEST_F(PkiStoreTest, NewPkiIsWhatAServerNeeds) {
  const auto ca = tls::read_certificate(pki_.ca_certificate);
  ASSERT_TRUE(ca);
  EXPECT_TRUE(ca->is_ca);
  const auto server = tls::read_certificate(pki_.server_certificate);
  ASSERT_TRUE(server);
  EXPECT_FALSE(server->is_ca);
  EXPECT_EQ(server->issuer, ca->subject);
  EXPECT_EQ(server->dns_names, std::vector<std::string>{"vpn.example.com"});
  ASSERT_EQ(server->ip_addresses.size(), 1u);
  EXPECT_EQ(server->ip_addresses[0].to_string(), "192.0.2.1");
  EXPECT_EQ(server->purposes, std::vector<tls::Purpose>{tls::Purpose::kServerAuth});

  // All pieces fit together in the eyes of the TLS code.
  tls::TlsOptions options;
  options.role = tls::Role::kServer;
  options.certificate_chain_pem = pki_.server_certificate;
  options.private_key_pem = pki_.server_key.clone();
  options.trusted_ca_pem = pki_.ca_certificate;
  options.crl_pem = pki_.crl;
  options.crl_required = true;
  const auto built = tls::TlsConfig::build(options);
  EXPECT_TRUE(built) << built.error().message();
}

TEST_F(PkiStoreTest, EmptyCrlIsValidAsLongAsTheCa) {
  const auto crl = tls::read_crl(pki_.crl);
  const auto ca = tls::read_certificate(pki_.ca_certificate);
  ASSERT_TRUE(crl && ca);
  EXPECT_TRUE(crl->revoked.empty());
  EXPECT_EQ(crl->next_update, ca->not_after);
}

TEST_F(PkiStoreTest, NamesOfAServerAreListedOnce) {
  ServerNames names;
  for (const char* name : {"a.example", "192.0.2.1", "a.example", "192.0.2.1", "2001:db8::1"}) {
    names.add(name);
  }
  EXPECT_EQ(names.dns_names.size(), 1u);
  EXPECT_EQ(names.ip_addresses.size(), 2u);
}

TEST_F(PkiStoreTest, LongServerNameStillFitsACommonName) {
  ServerNames names;
  const std::string label(60, 'a');
  names.common_name = label + "." + label + ".example";
  names.add(names.common_name);
  EXPECT_TRUE(make_pki(names, some_time()));
}

TEST_F(PkiStoreTest, IssuesClientCertificatesIntoPrivateFiles) {
  const PkiStore store = open();
  const UserCredentials made = issue(store, "alice");
  EXPECT_EQ(made.record.info.common_name, "alice");
  EXPECT_EQ(made.record.info.organizational_unit, "staff");
  EXPECT_EQ(made.record.info.purposes, std::vector<tls::Purpose>{tls::Purpose::kClientAuth});
  EXPECT_EQ(made.record.info.not_after, some_time() + days(30));
  EXPECT_TRUE(tls::key_matches(made.certificate_pem, made.key_pem).value());
  for (const std::string& file : {made.record.certificate_file, made.record.key_file}) {
    struct stat info {};
    ASSERT_EQ(::stat(file.c_str(), &info), 0) << file;
    EXPECT_EQ(info.st_mode & 07777, 0600u) << file;
  }
  struct stat info {};
  ASSERT_EQ(::stat((dir_ / "issued").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
}

TEST_F(PkiStoreTest, CertificateNeverOutlivesItsCa) {
  const auto made =
      open().issue({.name = "alice", .group = "", .days = kCaDays + 1, .server = {}}, some_time());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kUsage);
  EXPECT_NE(made.error().hint.find("valid until"), std::string::npos);
}

TEST_F(PkiStoreTest, DiscardLeavesNothing) {
  const PkiStore store = open();
  store.discard(issue(store, "alice").record);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "issued/alice"));
}

TEST_F(PkiStoreTest, StatesAreValidExpiredRevoked) {
  PkiStore store = open();
  issue(store, "alice");
  issue(store, "bob", 1);
  issue(store, "carol");
  ASSERT_TRUE(store.revoke("carol", some_time()));
  const auto all = store.certificates({}, some_time() + days(2));
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ(all->at(0).state, CertificateState::kValid);
  EXPECT_EQ(all->at(1).state, CertificateState::kExpired);
  EXPECT_EQ(all->at(2).state, CertificateState::kRevoked);
}

TEST_F(PkiStoreTest, RevokeListsEveryValidCertificateOfTheUserAlone) {
  PkiStore store = open();
  const auto first = issue(store, "alice");
  const auto second = issue(store, "alice");
  issue(store, "bob");
  const auto revoked = store.revoke("alice", some_time());
  ASSERT_TRUE(revoked) << revoked.error().message();
  EXPECT_EQ(revoked->size(), 2u);
  const auto crl = tls::read_crl(read_file(store.crl_file()).value());
  ASSERT_TRUE(crl);
  EXPECT_EQ(crl->number, 2u);
  EXPECT_EQ(crl->revoked.size(), 2u);
  EXPECT_EQ(crl->next_update, store.ca().not_after);
  EXPECT_EQ(store.certificates("bob", some_time())->front().state, CertificateState::kValid);

  // A second time there is nothing to do, and the list stays as it is.
  EXPECT_TRUE(store.revoke("alice", some_time())->empty());
  EXPECT_EQ(tls::read_crl(read_file(store.crl_file()).value())->number, 2u);
}

TEST_F(PkiStoreTest, EarlierRevocationsStayOnTheList) {
  PkiStore store = open();
  issue(store, "alice");
  issue(store, "bob");
  ASSERT_TRUE(store.revoke("alice", some_time()));
  ASSERT_TRUE(store.revoke("bob", some_time()));
  const auto crl = tls::read_crl(read_file(store.crl_file()).value());
  ASSERT_TRUE(crl);
  EXPECT_EQ(crl->revoked.size(), 2u);
  EXPECT_EQ(crl->number, 3u);
}

TEST_F(PkiStoreTest, RevocationListKeepsItsMode) {
  PkiStore store = open();
  issue(store, "alice");
  ASSERT_EQ(::chmod(store.crl_file().c_str(), 0640), 0);
  ASSERT_TRUE(store.revoke("alice", some_time()));
  struct stat info {};
  ASSERT_EQ(::stat(store.crl_file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST_F(PkiStoreTest, CredentialsAreTheValidOnes) {
  PkiStore store = open();
  issue(store, "alice");
  ASSERT_TRUE(store.revoke("alice", some_time()));
  EXPECT_NE(store.credentials("alice", some_time()).error().what.find("revoked"),
            std::string::npos);
  const auto again = issue(store, "alice");
  const auto found = store.credentials("alice", some_time());
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->certificate_pem, again.certificate_pem);
  EXPECT_FALSE(store.credentials("nobody", some_time()));
}

TEST_F(PkiStoreTest, WithoutCaKeyNothingIsIssuedAndTheReasonSaid) {
  ASSERT_EQ(std::filesystem::remove(dir_ / "ca.key"), true);
  const auto made =
      open().issue({.name = "alice", .group = "", .days = 1, .server = {}}, some_time());
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().where.find("ca.key"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "issued"));
}

TEST(PkiStore, FolderWithoutCaSaysHowToMakeOne) {
  const TemporaryDir dir;
  const auto store = PkiStore::open(dir.path());
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kUsage);
  EXPECT_NE(store.error().hint.find("culvertd init"), std::string::npos);
}

TEST(NewFiles, AreTakenBackUnlessKept) {
  const TemporaryDir dir;
  {
    NewFiles files;
    ASSERT_TRUE(files.parents_of(dir / "a/b/c"));
    ASSERT_TRUE(files.folder(dir / "a/b/c", {.mode = 0700, .owner = std::nullopt}));
    ASSERT_TRUE(files.file(dir / "a/b/c/f", "x", {}));
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "a"));
  {
    NewFiles files;
    ASSERT_TRUE(files.file(dir / "f", "x", {}));
    // What exists is refused, and stays.
    EXPECT_FALSE(files.file(dir / "f", "y", {}));
    files.keep();
  }
  EXPECT_EQ(read_file(dir / "f").value(), "x");
}

TEST(NewFiles, DoNotFollowALinkInTheirPlace) {
  const TemporaryDir dir;
  ASSERT_TRUE(create_file(dir / "target", "precious"));
  std::filesystem::create_symlink(dir / "target", dir / "link");
  std::filesystem::create_symlink(dir / "nowhere", dir / "dangling");
  NewFiles files;
  EXPECT_FALSE(files.file(dir / "link", "x", {}));
  EXPECT_FALSE(files.file(dir / "dangling", "x", {}));
  EXPECT_EQ(read_file(dir / "target").value(), "precious");
  EXPECT_FALSE(std::filesystem::exists(dir / "nowhere"));
}

}  // namespace
}  // namespace culvert::server
