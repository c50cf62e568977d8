// What went wrong in a TLS session, in words and exit codes. For the .cc files of this folder only.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/tls/peer_policy.h"
#include "common/tls/tls_config.h"

namespace culvert::tls {

struct FailureScene {
  Role role = Role::kClient;
  int mbedtls_error = 0;
  std::optional<int> alert;  // the number of a fatal alert that the peer sent
  bool handshake_done = false;
  bool anything_read = false;          // application data came in before
  bool certificate_requested = false;  // client: the server asked for our certificate
  bool have_certificate = false;       // client: we have one
  const Verdict* verdict = nullptr;    // about the peer
  std::string server_name;             // client
};

// "bad record MAC (TLS alert 20)"
[[nodiscard]] std::string alert_text(int number);

[[nodiscard]] Error explain_failure(const FailureScene& scene);

}  // namespace culvert::tls
