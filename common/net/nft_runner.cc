#include "common/net/nft_runner.h"

#include "common/base/text.h"
#include "common/net/program_runner.h"

namespace culvert::net {
namespace {

// nft names an operation that the kernel refuses, errno text included.
Error refused(const std::string& output) {
  const bool denied = output.find("Operation not permitted") != std::string::npos;
  return fail(denied ? ErrorCode::kPermission : ErrorCode::kFailure,
              "nft refused the rules: " + escape_for_display(trim(output)), "nft",
              denied ? "run as root or with CAP_NET_ADMIN" : "");
}

}  // namespace

Result<std::string> run_nft(std::string_view json) {
  auto result = run_program({"nft", "-j", "-f", "-"}, json, "nftables");
  if (!result) return std::move(result.error());
  if (!result->succeeded) return refused(result->output);
  return std::move(result->output);
}

}  // namespace culvert::net
