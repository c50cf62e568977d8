#include "server/tls_files.h"

#include <utility>

#include "common/base/file.h"

namespace culvert::server {
namespace {

// TlsConfig speaks of pieces ("CRL"), people of files.
std::string file_of_piece(const TlsSettings& settings, const std::string& piece) {
  if (piece == "certificate") return settings.certificate;
  if (piece == "private key") return settings.key;
  if (piece == "trusted CA") return settings.client_ca;
  if (piece == "CRL") return settings.crl.value_or("tls.crl");
  return piece;
}

}  // namespace

Result<tls::TlsOptions> read_tls_files(const TlsSettings& settings) {
  tls::TlsOptions options;
  options.role = tls::Role::kServer;
  options.min_version =
      settings.min_version == TlsVersion::k13 ? tls::Version::k13 : tls::Version::k12;
  options.strength_256 = settings.strength_256;
  options.crl_required = settings.crl.has_value();
  options.accept_expired_crl = settings.accept_expired_crl;

  auto certificate = read_file(settings.certificate);
  if (!certificate) return certificate.error();
  options.certificate_chain_pem = std::move(*certificate);
  auto key = read_secret_file(settings.key);
  if (!key) return key.error();
  options.private_key_pem = std::move(*key);
  auto trusted = read_file(settings.client_ca);
  if (!trusted) return trusted.error();
  options.trusted_ca_pem = std::move(*trusted);
  if (!settings.crl) return options;
  auto crl = read_file(*settings.crl);
  if (!crl) {
    Error error = crl.error();
    if (error.code == ErrorCode::kUsage) {
      error.hint =
          "without a revocation list nobody can be shut out; if that is intended, write "
          "crl = \"none\" in [tls]";
    }
    return error;
  }
  options.crl_pem = std::move(*crl);
  return options;
}

Result<std::shared_ptr<const tls::TlsConfig>> load_tls_config(const TlsSettings& settings) {
  const auto options = read_tls_files(settings);
  if (!options) return options.error();
  auto config = tls::TlsConfig::build(*options);
  if (!config) {
    Error error = config.error();
    error.where = file_of_piece(settings, error.where);
    return error;
  }
  return config;
}

}  // namespace culvert::server
