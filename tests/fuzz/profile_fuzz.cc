// Client profiles, server addresses and URLs: what is accepted can be asked for over HTTP, named in
// a file and given to the kernel.
#include <stdlib.h>
#include <unistd.h>

#include "client/paths.h"
#include "client/profile.h"
#include "common/base/text.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

// Stands for certificates and key of a URL: one small file for the whole run.
class PemFile {
 public:
  PemFile() {
    const int fd = ::mkstemp(path_);
    require(fd >= 0 && ::write(fd, "x", 1) == 1, "a temporary file can be written");
    ::close(fd);
  }
  PemFile(const PemFile&) = delete;
  PemFile& operator=(const PemFile&) = delete;
  ~PemFile() { ::unlink(path_); }

  [[nodiscard]] std::string path() const { return path_; }

 private:
  char path_[32] = "/tmp/culvert-fuzz-XXXXXX";
};

void check_error(const Error& error) {
  require(error.code == ErrorCode::kUsage, "a bad profile is a usage error");
  require(!error.what.empty() && has_no_control_characters(error.message()),
          "an error can be printed");
}

void check_profile(const client::Profile& profile) {
  require(!profile.host.empty() && !profile.server_name.empty() && profile.port != 0,
          "there is somewhere to connect");
  require(profile.path.starts_with('/'), "the path is absolute");
  const std::string url = profile.url();
  require(has_no_control_characters(url) && url.find(' ') == std::string::npos,
          "the URL fits a request line");
  require(!profile.mtu || (*profile.mtu >= 576 && *profile.mtu <= 16376),
          "the MTU is in its range");
  require(
      profile.routing.priority >= 1 && profile.routing.table >= 256 && profile.routing.fwmark != 0,
      "the numbers are in their ranges");
  const auto again = client::parse_host_port(profile.authority());
  require(again && again->port == profile.port, "the authority is an address");
}

void check_host_port(std::string_view text) {
  const auto parsed = client::parse_host_port(text);
  if (!parsed) return check_error(parsed.error());
  require(!parsed->host.empty() && parsed->host.find_first_of("[]/ ") == std::string::npos,
          "a host is bare");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const PemFile pem;
  const std::string_view text = as_text(fuzz::input(data, size));
  if (const auto profile = client::parse_profile(text, "alice.toml", "alice")) {
    check_profile(*profile);
    require(profile->tls_options().trusted_ca_pem == profile->ca_pem, "the CA is the profile's");
  } else {
    check_error(profile.error());
  }
  check_host_port(text);
  const client::UrlFiles files{pem.path(), pem.path(), pem.path(), ""};
  if (const auto profile = client::profile_from_url(text, files)) {
    check_profile(*profile);
    require(client::is_tunnel_name(profile->tunnel), "a URL's tunnel has a name");
  } else {
    check_error(profile.error());
  }
  return 0;
}
