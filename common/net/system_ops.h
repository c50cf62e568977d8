// SystemOps: the seam for privileged work. Whoever wants the system changed submits requests, plain
// values, and is answered later; who carries them out (a privileged helper process, see
// common/helper, or a thread of this process) is not the submitter's business.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/netlink.h"
#include "common/net/system_answer.h"
#include "common/net/system_executor.h"
#include "common/net/system_request.h"
#include "common/net/undo_journal.h"

namespace culvert::net {

class SystemOps {
 public:
  using Answers = std::function<void(std::vector<SystemAnswer>)>;
  using Finished = std::function<void(Status)>;

  virtual ~SystemOps() = default;

  // Carries out the requests in order and stops at the first failure; the rest is answered with
  // attempted = false and an error. What was done before the failure stays done (undo_all(), or the
  // inverses, take it back). `done` gets one answer per request; it is called later on the
  // submitter's loop, never from inside submit(), and in the order of the submissions.
  virtual void submit(std::vector<SystemRequest> requests, Answers done) = 0;

  // After everything submitted so far: takes back every journalled change, newest first. Goes on
  // after a failure and reports the first one. Without a journal there is nothing to take back.
  virtual void undo_all(Finished done) = 0;
};

struct LocalSystemOpsOptions {
  // Both as in SystemExecutor.
  std::unique_ptr<UndoJournal> journal;
  std::string own_device;
};

// Carries requests out in this process, on a thread of its own that starts with the first
// submission (so that privileges can be dropped between construction and use).
class LocalSystemOps final : public SystemOps {
 public:
  // How to run a task later on the submitter's loop: loop::Loop::post. Called on the worker thread.
  using Post = std::function<void(std::function<void()>)>;

  LocalSystemOps(Netlink netlink, Post post, LocalSystemOpsOptions options = {});
  // Finishes the batch that is being carried out; batches that wait are dropped unexecuted and
  // unanswered. Wait for `done` if they matter. Journal entries stay for the next start.
  ~LocalSystemOps() override;

  void submit(std::vector<SystemRequest> requests, Answers done) override;
  void undo_all(Finished done) override;

 private:
  class Worker;
  std::unique_ptr<Worker> worker_;
};

}  // namespace culvert::net
