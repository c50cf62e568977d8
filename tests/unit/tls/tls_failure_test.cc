// How failures are put into words and exit codes, where no peer at hand makes them.

#include "common/tls/tls_failure.h"

#include <gtest/gtest.h>
#include <mbedtls/ssl.h>

namespace culvert::tls {
namespace {

FailureScene scene_of_first_read() {
  FailureScene scene;
  scene.handshake_done = true;
  scene.certificate_requested = true;
  scene.have_certificate = true;
  scene.server_name = "vpn.example.com";
  return scene;
}

TEST(TlsFailure, EveryAlertAboutOurCertificateIsARefusal) {
  for (const int alert : {42, 43, 44, 45, 46, 48, 49, 116}) {
    FailureScene scene = scene_of_first_read();
    scene.alert = alert;
    EXPECT_EQ(ErrorCode::kAuthRefused, explain_failure(scene).code) << alert;
    scene.anything_read = true;
    EXPECT_EQ(ErrorCode::kNetwork, explain_failure(scene).code) << alert << " later";
  }
  for (const int alert : {10, 20, 40, 47, 50, 70, 80, 90, 255}) {
    FailureScene scene = scene_of_first_read();
    scene.alert = alert;
    EXPECT_EQ(ErrorCode::kNetwork, explain_failure(scene).code) << alert;
  }
}

// What an mbedTLS server's refusal looks like in TLS 1.3.
TEST(TlsFailure, UndecryptableFirstRecordIsARefusal) {
  FailureScene scene = scene_of_first_read();
  scene.mbedtls_error = MBEDTLS_ERR_SSL_INVALID_MAC;
  EXPECT_EQ(ErrorCode::kAuthRefused, explain_failure(scene).code);
  scene.certificate_requested = false;
  EXPECT_EQ(ErrorCode::kNetwork, explain_failure(scene).code);
  scene = scene_of_first_read();
  scene.mbedtls_error = MBEDTLS_ERR_SSL_INVALID_MAC;
  scene.anything_read = true;
  EXPECT_EQ(ErrorCode::kNetwork, explain_failure(scene).code);
}

TEST(TlsFailure, HandshakeFailureWithoutACertificateIsARefusal) {
  FailureScene scene = scene_of_first_read();
  scene.handshake_done = false;
  scene.have_certificate = false;
  scene.alert = 40;
  EXPECT_EQ(ErrorCode::kAuthRefused, explain_failure(scene).code);
}

TEST(TlsFailure, OnTheServerIsNobodysExitCode) {
  FailureScene scene;
  scene.role = Role::kServer;
  scene.alert = 48;
  const Error error = explain_failure(scene);
  EXPECT_EQ(ErrorCode::kFailure, error.code);
  EXPECT_NE(std::string::npos, error.hint.find("does not accept this server's certificate"));
}

}  // namespace
}  // namespace culvert::tls
