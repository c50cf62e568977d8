// SystemExecutor: carries requests out and keeps the journal of how to take them back. Blocks; for
// whoever stands behind the seam for privileged work.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/net/netlink.h"
#include "common/net/system_answer.h"
#include "common/net/system_request.h"
#include "common/net/undo_journal.h"

namespace culvert::net {

class SystemExecutor {
 public:
  // `journal`: where to write inverses before changes are made; absent: nothing is written. A
  // request equal to a pending inverse (somebody takes a change back) strikes that entry.
  // `own_device`: our own TUN device. What hangs on it goes with it when the process ends, however
  // it ends, and is not journalled. Empty: journal everything.
  SystemExecutor(Netlink netlink, std::unique_ptr<UndoJournal> journal, std::string own_device)
      : netlink_(std::move(netlink)),
        journal_(std::move(journal)),
        own_device_(std::move(own_device)) {}

  // In order, up to the first failure: one answer for each request.
  std::vector<SystemAnswer> carry_out(const std::vector<SystemRequest>& requests);
  SystemAnswer carry_out(const SystemRequest& request);
  // Every journalled change, newest first; goes on after a failure and returns the first one.
  Status undo_all() { return journal_ ? journal_->undo_all(netlink_) : Status(); }

 private:
  [[nodiscard]] bool hangs_on_own_device(const SystemRequest& request) const;

  Netlink netlink_;
  std::unique_ptr<UndoJournal> journal_;
  std::string own_device_;
};

// Carries out one request, which is validated first. Blocks: a system call for most, up to ten
// seconds for RunNft.
SystemAnswer execute(Netlink& netlink, const SystemRequest& request);

// The request that takes `request` back, or nothing for what needs none: deletions are not undone,
// and a link is only ever changed on a device of our own. SetSysctl: from the answer, i.e. after
// execute().
std::optional<SystemRequest> inverse(const SystemRequest& request, const SystemAnswer& answer);

// The same before execute(), for the journal: SetSysctl reads the present value. An error means
// that it cannot be read and the change must not be made.
Result<std::optional<SystemRequest>> inverse_before(const SystemRequest& request);

// The answer for those behind the first failure of a batch.
[[nodiscard]] SystemAnswer not_attempted(const SystemRequest& request);

}  // namespace culvert::net
