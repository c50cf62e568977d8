#include "common/loop/signal.h"

#include <utility>

#include "common/loop/handle_close.h"

namespace culvert::loop {

struct Signal::Block {
  uv_signal_t uv{};
  bool initialised = true;
  CallbackSlot<void()> callback;
};

Signal::Signal(Loop& loop, int signum, Task on_signal) : block_(new Block) {
  must(uv_signal_init(loop.raw(), &block_->uv));
  block_->uv.data = block_.get();
  block_->callback.set(std::move(on_signal));
  must(uv_signal_start(
      &block_->uv,
      [](uv_signal_t* handle, int) noexcept { static_cast<Block*>(handle->data)->callback.call(); },
      signum));
}

Signal::Signal(Signal&&) noexcept = default;
Signal& Signal::operator=(Signal&&) noexcept = default;
Signal::~Signal() = default;

}  // namespace culvert::loop
