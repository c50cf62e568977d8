#include "common/loop/loop.h"

#include <uv.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "common/loop/handle_close.h"
#include "common/loop/loop_state.h"

namespace culvert::loop {

void Mailbox::post(Task task) {
  {
    const std::scoped_lock lock(mutex_);
    if (wake_ != nullptr) {
      tasks_.push_back(std::move(task));
      // Under the lock, so that close() cannot come between. Once per batch is enough.
      if (tasks_.size() == 1) uv_async_send(wake_);
      return;
    }
  }
  // Closed: `task` dies here, outside the lock, because its destructor may post.
}

std::vector<Task> Mailbox::take() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(tasks_, {});
}

std::vector<Task> Mailbox::close() {
  const std::scoped_lock lock(mutex_);
  wake_ = nullptr;
  return std::exchange(tasks_, {});
}

Loop::State::State() {
  must(uv_loop_init(&uv));
  uv.data = this;
  must(uv_prepare_init(&uv, &before_wait));
  must(uv_check_init(&uv, &after_io));
  must(uv_idle_init(&uv, &no_wait));
  must(uv_async_init(&uv, &wake, [](uv_async_t* handle) noexcept {
    static_cast<State*>(handle->loop->data)->run_posted();
  }));
  mailbox = std::make_shared<Mailbox>(wake);

  must(uv_prepare_start(&before_wait, [](uv_prepare_t* handle) noexcept {
    auto& self = *static_cast<State*>(handle->loop->data);
    self.run_deferred();
    if (self.armed.empty())
      uv_idle_stop(&self.no_wait);
    else
      uv_idle_start(&self.no_wait, [](uv_idle_t*) noexcept {});
    self.turn_time.reset();
  }));
  must(uv_check_start(&after_io, [](uv_check_t* handle) noexcept {
    auto& self = *static_cast<State*>(handle->loop->data);
    self.run_deferred();
    self.turn_time.reset();
  }));
}

Loop::State::~State() {
  // Tasks first: what they own may be wrappers of this very loop.
  { const auto dropped = mailbox->close(); }
  while (abandoned_children > 0)
    uv_run(&uv, UV_RUN_ONCE);
  for (uv_handle_t* handle :
       {reinterpret_cast<uv_handle_t*>(&before_wait), reinterpret_cast<uv_handle_t*>(&after_io),
        reinterpret_cast<uv_handle_t*>(&no_wait), reinterpret_cast<uv_handle_t*>(&wake)})
    uv_close(handle, nullptr);
  // One look runs all pending close callbacks; a closure that dies there may close another handle.
  for (int looks = 0; looks < 8 && uv_run(&uv, UV_RUN_NOWAIT) != 0; ++looks) {
  }
  if (uv_loop_close(&uv) != 0) {
    std::fputs("culvert: a loop is destroyed before its handles:\n", stderr);
    uv_print_all_handles(&uv, stderr);
    std::abort();
  }
}

void Loop::State::run_posted() {
  for (auto& task : mailbox->take()) {
    task();
    task = nullptr;  // what it owned goes before the next one runs
  }
}

void Loop::State::run_deferred() {
  batch.swap(armed);
  // By index: forget() writes into the vector while it is walked.
  for (size_t i = 0; i < batch.size(); ++i) {
    Deferred::Node* const node = batch[i];
    if (node == nullptr) continue;
    node->armed = false;
    running_node = node;
    Task work = std::move(node->work);
    work();
    if (running_node == node) node->work = std::move(work);  // else it has died meanwhile
  }
  running_node = nullptr;
  batch.clear();
}

void Loop::State::arm(Deferred::Node& node) {
  if (std::exchange(node.armed, true)) return;
  armed.push_back(&node);
}

void Loop::State::disarm(Deferred::Node& node) noexcept {
  for (auto* list : {&armed, &batch})
    for (auto& entry : *list)
      if (entry == &node) entry = nullptr;
}

void Loop::State::forget(Deferred::Node& node) noexcept {
  disarm(node);
  if (running_node == &node) running_node = nullptr;
}

Loop::Loop() {
  // libuv writes to pipes and sockets without MSG_NOSIGNAL and leaves this to the program.
  std::signal(SIGPIPE, SIG_IGN);
  state_ = std::make_unique<State>();
}

Loop::~Loop() = default;

void Loop::run() {
  state_->running = true;
  state_->turn_time.reset();
  uv_run(&state_->uv, UV_RUN_DEFAULT);
  state_->turn_time.reset();
  state_->running = false;
}

void Loop::stop() {
  uv_stop(&state_->uv);
}

TimePoint Loop::now() const {
  if (!state_->running) return BootClock::now();
  if (!state_->turn_time) state_->turn_time = BootClock::now();
  return *state_->turn_time;
}

void Loop::post(Task task) {
  state_->mailbox->post(std::move(task));
}

uv_loop_s* Loop::raw() {
  return &state_->uv;
}

}  // namespace culvert::loop
