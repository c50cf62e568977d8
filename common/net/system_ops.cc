#include "common/net/system_ops.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace culvert::net {

// The queue and the thread behind it. All members above `mutex_` belong to the thread once it runs.
class LocalSystemOps::Worker {
 public:
  Worker(Netlink netlink, Post post, LocalSystemOpsOptions options)
      : executor_(std::move(netlink), std::move(options.journal), std::move(options.own_device)),
        post_(std::move(post)) {}
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  void enqueue(std::function<void(Worker&)> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    wake_.notify_one();
  }

  // On the thread:

  void answer(std::function<void()> task) { post_(std::move(task)); }

  SystemExecutor& executor() { return executor_; }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      if (stopping_) return;
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job(*this);
      lock.lock();
    }
  }

  SystemExecutor executor_;
  Post post_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void(Worker&)>> jobs_;
  bool stopping_ = false;
  std::thread thread_;  // started and joined by the owner's thread alone
};

LocalSystemOps::LocalSystemOps(Netlink netlink, Post post, LocalSystemOpsOptions options)
    : worker_(std::make_unique<Worker>(std::move(netlink), std::move(post), std::move(options))) {}

LocalSystemOps::~LocalSystemOps() = default;

void LocalSystemOps::submit(std::vector<SystemRequest> requests, Answers done) {
  worker_->enqueue([requests = std::move(requests), done = std::move(done)](Worker& worker) {
    auto answers = worker.executor().carry_out(requests);
    worker.answer([done, answers = std::move(answers)]() mutable { done(std::move(answers)); });
  });
}

void LocalSystemOps::undo_all(Finished done) {
  worker_->enqueue([done = std::move(done)](Worker& worker) {
    auto status = worker.executor().undo_all();
    worker.answer([done, status = std::move(status)]() mutable { done(std::move(status)); });
  });
}

}  // namespace culvert::net
