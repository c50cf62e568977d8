#include "server/host_setup.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "common/tunnel/path_mtu.h"

namespace culvert::server {
namespace {

constexpr uint32_t kTxQueueLength = 4096;
// "Unreachable" for addresses of a pool that nobody has: far behind every other route
// (Documentation/networking/vrf.rst uses the same number for the same purpose).
constexpr uint32_t kLastResortMetric = 4278198272;

}  // namespace

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    log::debug("daemon", "the limit of descriptors stays as it is");
  }
}

// The run-time folder is shared with clients, which run as root. One that we make lets the service
// user remove its own files at the end and nobody else's (sticky); one that is there stays as it
// is.
Status make_runtime_folder(const std::string& path, const Account& account) {
  if (::mkdir(path.c_str(), 0755) != 0) {
    if (errno == EEXIST) return {};
    const ErrorCode code = errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure;
    return fail_errno(code, errno, "cannot create the run-time folder", path);
  }
  if (account.gid != ::getegid() &&
      ::chown(path.c_str(), static_cast<uid_t>(-1), account.gid) == 0) {
    ::chmod(path.c_str(), 01775);
  }
  return {};
}

Status make_state_folder(const std::string& path, const Account& account) {
  if (::mkdir(path.c_str(), 0700) != 0) {
    if (errno == EEXIST) return {};
    const ErrorCode code = errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure;
    return fail_errno(code, errno, "cannot create the state folder", path);
  }
  if (account.uid == ::geteuid() || ::chown(path.c_str(), account.uid, account.gid) == 0) return {};
  return fail_errno(ErrorCode::kFailure, errno, "cannot give the state folder to the service user",
                    path);
}

std::vector<net::SystemRequest> device_setup(const SessionManager& sessions,
                                             const std::string& device) {
  std::vector<net::SystemRequest> requests;
  net::LinkChange before{.device = device};
  before.tx_queue_len = kTxQueueLength;
  before.gso_max_size = tunnel::kSuperpacketSize;
  before.addr_gen_mode_none = true;  // has to be said before the device is up
  requests.emplace_back(net::SetLink{before});
  for (const Family family : {Family::kV4, Family::kV6}) {
    const auto& pool = sessions.pool(family);
    if (!pool) continue;
    requests.emplace_back(net::AddAddress{device, Prefix::host(pool->server_address())});
  }
  net::LinkChange up{.device = device};
  up.up = true;
  requests.emplace_back(net::SetLink{up});
  for (const Family family : {Family::kV4, Family::kV6}) {
    const auto& pool = sessions.pool(family);
    if (!pool) continue;
    net::Route route;
    route.destination = pool->network();
    route.type = net::Route::Type::kUnreachable;
    route.metric = kLastResortMetric;
    requests.emplace_back(net::AddRoute{route});
  }
  return requests;
}

}  // namespace culvert::server
