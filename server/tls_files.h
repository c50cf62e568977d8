// From the configuration to a TLS configuration: reads the certificate, key, CA and CRL files that
// [tls] names. For start, reload and `culvertd check`.
#pragma once

#include <memory>

#include "common/base/result.h"
#include "common/tls/tls_config.h"
#include "server/config.h"

namespace culvert::server {

// What the files hold. Errors name the file.
[[nodiscard]] Result<tls::TlsOptions> read_tls_files(const TlsSettings& settings);

// The same, built and so checked (key against certificate, CRL against CA). Errors name the file,
// and say what to do if the CRL file is missing.
[[nodiscard]] Result<std::shared_ptr<const tls::TlsConfig>> load_tls_config(
    const TlsSettings& settings);

}  // namespace culvert::server
