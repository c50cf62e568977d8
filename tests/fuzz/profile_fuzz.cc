// A client's profile: a file that comes from somebody else.
#include "client/profile.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text(fuzz::input(data, size));
  if (const auto profile = client::parse_profile(text, "fuzz.toml", "fuzz")) {
    require(!profile->host.empty() && profile->port != 0, "there is somewhere to connect to");
    require(!profile->server_name.empty(), "there is a name to be proven");
    require(profile->url().find('\n') == std::string::npos, "a URL is one line");
    require(profile->authority().find_first_of("\r\n ") == std::string::npos, "and so is Host");
    require(profile->path.starts_with('/'), "the path is one");
  }
  if (const auto place = client::parse_host_port(text)) {
    require(!place->host.empty() && place->port != 0, "a place has a host and a port");
  }
  (void)client::profile_from_url(text, {});
  return 0;
}
