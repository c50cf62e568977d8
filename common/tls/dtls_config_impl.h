// What is behind DtlsConfig. For the .cc files of this folder only.
#pragma once

#include <mbedtls/ssl.h>

#include "common/tls/dtls_config.h"
#include "common/tls/mbedtls_objects.h"

namespace culvert::tls {

using SslConfig = Object<mbedtls_ssl_config, mbedtls_ssl_config_init, mbedtls_ssl_config_free>;

struct DtlsConfig::Impl {
  DtlsOptions options;
  // Server: what its sessions use. A client's sessions have one each, because mbedTLS's client
  // takes its key from there and from nowhere else.
  SslConfig server;

  // Puts the options into `ssl`.
  Status set_up(mbedtls_ssl_config* ssl) const;
};

// What a server's session leaves in mbedtls_ssl_set_user_data_p(): mbedTLS asks for the key when it
// needs it.
using PskUserData = const Secret;

}  // namespace culvert::tls
