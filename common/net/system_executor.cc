#include "common/net/system_executor.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "common/base/text.h"
#include "common/base/unique_fd.h"
#include "common/net/nft_runner.h"

namespace culvert::net {
namespace {

// ---- sysctls

std::string sysctl_path(const SetSysctl& request) {
  return "/proc/sys/" + request.path;
}

Error sysctl_error(int error, std::string_view what, std::string path) {
  const bool denied = error == EACCES || error == EPERM || error == EROFS;
  return fail_errno(denied ? ErrorCode::kPermission : ErrorCode::kFailure, error, what,
                    std::move(path),
                    denied ? "run as root; in a container, /proc/sys may be read-only" : "");
}

Result<std::string> read_sysctl(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 256> buffer{};
  const ssize_t count = fd.valid() ? ::read(fd.get(), buffer.data(), buffer.size()) : -1;
  if (count < 0) return sysctl_error(errno, "cannot read the kernel setting", path);
  return std::string(trim({buffer.data(), static_cast<size_t>(count)}));
}

Status write_sysctl(const std::string& path, const std::string& value) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const ssize_t count = fd.valid() ? ::write(fd.get(), value.data(), value.size()) : -1;
  if (count < 0) return sysctl_error(errno, "cannot change the kernel setting", path);
  return {};
}

// ---- one request

SystemAnswer answer_of(Status status) {
  SystemAnswer answer;
  if (!status) answer.error = std::move(status).error();
  return answer;
}

SystemAnswer answer_of(Result<std::string> output) {
  SystemAnswer answer;
  if (output) {
    answer.output = *std::move(output);
  } else {
    answer.error = std::move(output).error();
  }
  return answer;
}

struct Executor {
  Netlink& netlink;

  SystemAnswer operator()(const SetLink& r) const { return answer_of(netlink.set_link(r.change)); }
  SystemAnswer operator()(const AddAddress& r) const {
    const auto index = netlink.link_index(r.device);
    if (!index) return answer_of(Status(index.error()));
    return answer_of(netlink.add_address(*index, r.address));
  }
  SystemAnswer operator()(const DelAddress& r) const {
    return answer_of(netlink.del_address(r.device, r.address));
  }
  SystemAnswer operator()(const AddRoute& r) const { return answer_of(netlink.add_route(r.route)); }
  SystemAnswer operator()(const DelRoute& r) const { return answer_of(netlink.del_route(r.route)); }
  SystemAnswer operator()(const AddRule& r) const { return answer_of(netlink.add_rule(r.rule)); }
  SystemAnswer operator()(const DelRule& r) const { return answer_of(netlink.del_rule(r.rule)); }
  SystemAnswer operator()(const SetSysctl& r) const {
    const std::string path = sysctl_path(r);
    auto previous = read_sysctl(path);
    if (previous) {
      if (auto written = write_sysctl(path, r.value); !written) return answer_of(written);
    }
    return answer_of(std::move(previous));
  }
  SystemAnswer operator()(const RunNft& r) const { return answer_of(run_nft(r.json)); }
  SystemAnswer operator()(const SetResolver& r) const {
    return answer_of(run_resolver(apply_commands(r.setup)));
  }
  SystemAnswer operator()(const ClearResolver& r) const {
    return answer_of(run_resolver(clear_commands(r.kind, r.device)));
  }
};

using Inverse = std::optional<SystemRequest>;

// `previous` is the value that a sysctl had.
struct Inverter {
  const std::string& previous;

  Inverse operator()(const SetLink&) const { return std::nullopt; }
  Inverse operator()(const AddAddress& r) const { return DelAddress{r.device, r.address}; }
  Inverse operator()(const DelAddress&) const { return std::nullopt; }
  Inverse operator()(const AddRoute& r) const { return DelRoute{r.route}; }
  Inverse operator()(const DelRoute&) const { return std::nullopt; }
  Inverse operator()(const AddRule& r) const { return DelRule{r.rule}; }
  Inverse operator()(const DelRule&) const { return std::nullopt; }
  Inverse operator()(const SetSysctl& r) const { return SetSysctl{r.path, previous}; }
  Inverse operator()(const RunNft& r) const {
    if (r.undo.empty()) return std::nullopt;
    return RunNft{r.undo};
  }
  Inverse operator()(const SetResolver& r) const {
    return ClearResolver{r.setup.kind, r.setup.device};
  }
  Inverse operator()(const ClearResolver&) const { return std::nullopt; }
};

// The device that the change hangs on and goes away with; empty if it would stay.
struct DeviceOf {
  std::string_view operator()(const SetLink& r) const { return r.change.device; }
  std::string_view operator()(const AddAddress& r) const { return r.device; }
  std::string_view operator()(const DelAddress& r) const { return r.device; }
  std::string_view operator()(const AddRoute& r) const { return r.route.device; }
  std::string_view operator()(const DelRoute& r) const { return r.route.device; }
  std::string_view operator()(const AddRule&) const { return {}; }
  std::string_view operator()(const DelRule&) const { return {}; }
  std::string_view operator()(const SetSysctl& r) const { return split(r.path, '/')[3]; }
  std::string_view operator()(const RunNft&) const { return {}; }
  // systemd-resolved forgets what belongs to a device with it; resolvconf does not.
  std::string_view operator()(const SetResolver& r) const {
    return r.setup.kind == ResolverKind::kResolved ? std::string_view(r.setup.device) : "";
  }
  std::string_view operator()(const ClearResolver& r) const {
    return r.kind == ResolverKind::kResolved ? std::string_view(r.device) : "";
  }
};

}  // namespace

SystemAnswer execute(Netlink& netlink, const SystemRequest& request) {
  if (auto valid = validate(request); !valid) return answer_of(std::move(valid));
  return std::visit(Executor{netlink}, request);
}

std::optional<SystemRequest> inverse(const SystemRequest& request, const SystemAnswer& answer) {
  return std::visit(Inverter{answer.output}, request);
}

Result<std::optional<SystemRequest>> inverse_before(const SystemRequest& request) {
  if (auto valid = validate(request); !valid) return std::move(valid).error();
  std::string previous;
  if (const auto* sysctl = std::get_if<SetSysctl>(&request)) {
    auto value = read_sysctl(sysctl_path(*sysctl));
    if (!value) return value.error();
    previous = *std::move(value);
  }
  return std::visit(Inverter{previous}, request);
}

SystemAnswer not_attempted(const SystemRequest& request) {
  SystemAnswer answer;
  answer.error =
      fail(ErrorCode::kFailure, "not attempted, because an earlier step failed", describe(request));
  answer.attempted = false;
  return answer;
}

std::vector<SystemAnswer> SystemExecutor::carry_out(const std::vector<SystemRequest>& requests) {
  std::vector<SystemAnswer> answers;
  answers.reserve(requests.size());
  bool failed = false;
  for (const SystemRequest& request : requests) {
    answers.push_back(failed ? not_attempted(request) : carry_out(request));
    failed = failed || !answers.back().ok();
  }
  return answers;
}

SystemAnswer SystemExecutor::carry_out(const SystemRequest& request) {
  if (!journal_ || hangs_on_own_device(request)) return execute(netlink_, request);
  // Whoever takes a change back makes none that would have to be undone.
  if (journal_->contains(request)) {
    SystemAnswer answer = execute(netlink_, request);
    if (answer.ok()) journal_->strike(request);
    return answer;
  }
  const auto undo = inverse_before(request);
  if (!undo) return answer_of(Status(undo.error()));
  if (!*undo) return execute(netlink_, request);
  if (auto recorded = journal_->record(**undo); !recorded) return answer_of(std::move(recorded));
  SystemAnswer answer = execute(netlink_, request);
  if (!answer.ok()) journal_->strike(**undo);
  return answer;
}

bool SystemExecutor::hangs_on_own_device(const SystemRequest& request) const {
  if (own_device_.empty() || !validate(request)) return false;
  return std::visit(DeviceOf{}, request) == own_device_;
}

}  // namespace culvert::net
