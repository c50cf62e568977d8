// culvertd.toml through the server's reader: what is accepted keeps its promises.
#include "server/config.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = as_text(fuzz::input(data, size));
  const auto config = server::parse_config(text, "/etc/culvert/culvertd.toml");
  if (!config) {
    require(!config.error().message().empty(), "a refusal says why");
    return 0;
  }
  const server::NetworkSettings& network = config->network;
  require(network.ipv4 || network.ipv6, "there is a network for clients");
  if (network.ipv4) require(network.ipv4->network() == *network.ipv4, "without host bits");
  if (network.ipv6) require(network.ipv6->network() == *network.ipv6, "without host bits");
  require(config->listen.port != 0, "there is a port");
  require(config->tls.certificate.starts_with('/'), "paths are absolute");
  require(config->session.dpd.count() > 0, "somebody asks");
  require(config->workers <= server::kMostWorkers, "as many workers as there may be");
  return 0;
}
