#include "common/loop/poll.h"

#include <sys/socket.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "common/loop/handle_close.h"

namespace culvert::loop {
namespace {

static_assert(unsigned{kReadable} == unsigned{UV_READABLE});
static_assert(unsigned{kWritable} == unsigned{UV_WRITABLE});

// Takes the pending error from the socket. EIO if it is none, or does not tell.
int take_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error == 0) return EIO;
  return error;
}

}  // namespace

struct Poll::Block {
  uv_poll_t uv{};
  bool initialised = false;
  CallbackSlot<void(unsigned, int)> callback;
  int fd = -1;
  unsigned interest = 0;

  void watch(unsigned wanted);
  static void on_event(uv_poll_t* handle, int status, int events) noexcept;
};

void Poll::Block::watch(unsigned wanted) {
  if (wanted == interest) return;
  interest = wanted;
  if (wanted == 0)
    must(uv_poll_stop(&uv));
  else
    must(uv_poll_start(&uv, static_cast<int>(wanted), on_event));
}

void Poll::Block::on_event(uv_poll_t* handle, int status, int events) noexcept {
  auto& block = *static_cast<Block*>(handle->data);
  if (status == 0) {
    block.callback.call(static_cast<unsigned>(events), 0);
    return;
  }
  // libuv answers EPOLLERR with a bare UV_EBADF and has stopped the watch.
  const unsigned wanted = block.interest;
  block.watch(0);
  block.callback.call(wanted, take_error(block.fd));
}

Poll::Poll(Loop& loop, int fd) : loop_(&loop), fd_(fd) {}
Poll::Poll(Poll&&) noexcept = default;
Poll& Poll::operator=(Poll&&) noexcept = default;
Poll::~Poll() = default;

Status Poll::start(OnReady on_ready, unsigned interest) {
  stop();
  Handle<Block> block(new Block);
  if (const int result = uv_poll_init(loop_->raw(), &block->uv, fd_); result != 0)
    return fail_errno(ErrorCode::kFailure, -result, "cannot watch a descriptor");
  block->initialised = true;
  block->uv.data = block.get();
  block->fd = fd_;
  block->callback.set(std::move(on_ready));
  block_ = std::move(block);
  block_->watch(interest);
  return {};
}

void Poll::set_interest(unsigned interest) {
  assert(block_);
  block_->watch(interest);
}

unsigned Poll::interest() const {
  return block_ ? block_->interest : 0;
}

void Poll::stop() {
  block_.reset();
}

}  // namespace culvert::loop
