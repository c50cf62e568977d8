#include "common/helper/remote_system_ops.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace culvert::helper {
namespace {

constexpr size_t kReceiveBytes = size_t{64} << 10;
// Undoing what a killed run has left may take the helper a while.
constexpr int kBeginLimitMs = 60'000;

Error gone(std::string why) {
  return fail(ErrorCode::kFailure, "the privileged helper process is gone: " + std::move(why), {},
              "its log lines say more; start the program again");
}

struct Received {
  ssize_t size = 0;
  UniqueFd descriptor;
};

Received receive_some(int socket, MutableBytes bytes) {
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  Received received;
  received.size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (received.size <= 0) return received;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int descriptor = -1;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    received.descriptor = UniqueFd(descriptor);
  }
  return received;
}

Status send_all(int socket, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return gone("it does not listen");
    text.remove_prefix(static_cast<size_t>(sent));
  }
  return {};
}

}  // namespace

Status begin(const UniqueFd& socket, const Begin& begin) {
  if (Status sent = send_all(socket.get(), write_frame({FrameKind::kBegin, to_text(begin)}));
      !sent) {
    return sent;
  }
  FrameBuffer buffer;
  std::vector<std::byte> bytes(kReceiveBytes);
  while (true) {
    auto frame = buffer.next();
    if (!frame) return std::move(frame.error());
    if (*frame) {
      const auto answers = parse_answers((*frame)->text);
      if (!answers) return answers.error();
      return net::first_error(*answers);
    }
    pollfd ready{socket.get(), POLLIN, 0};
    const int polled = ::poll(&ready, 1, kBeginLimitMs);
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0) return gone("it does not answer");
    const ssize_t size = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
    if (size <= 0) return gone("it has ended at the beginning");
    buffer.feed(Bytes(bytes).first(static_cast<size_t>(size)));
  }
}

Result<std::unique_ptr<RemoteSystemOps>> RemoteSystemOps::create(loop::Loop& loop, UniqueFd socket,
                                                                 OnLost on_lost) {
  std::unique_ptr<RemoteSystemOps> made(
      new RemoteSystemOps(loop, std::move(socket), std::move(on_lost)));
  RemoteSystemOps& self = *made;
  // An error on the socket shows in what is read from it.
  if (Status started = self.poll_.start(
          [&self](unsigned ready, int /*error*/) { self.on_ready(ready); }, loop::kReadable);
      !started) {
    return std::move(started.error());
  }
  return made;
}

RemoteSystemOps::RemoteSystemOps(loop::Loop& loop, UniqueFd socket, OnLost on_lost)
    : loop_(loop),
      socket_(std::move(socket)),
      poll_(loop, socket_.get()),
      on_lost_(std::move(on_lost)) {}

RemoteSystemOps::~RemoteSystemOps() {
  poll_.stop();
}

void RemoteSystemOps::submit(std::vector<net::SystemRequest> requests, Answers done) {
  Waiting waiting;
  waiting.expected = requests.size();
  waiting.done = [requests, done = std::move(done)](Result<std::vector<net::SystemAnswer>> answers,
                                                    const UniqueFd& /*descriptor*/) {
    if (answers) return done(std::move(*answers));
    std::vector<net::SystemAnswer> failed;
    failed.reserve(requests.size());
    for (const net::SystemRequest& request : requests)
      failed.push_back(net::not_attempted(request));
    if (!failed.empty()) failed.front().error = answers.error();
    done(std::move(failed));
  };
  send({FrameKind::kRequests, to_text(requests)}, std::move(waiting));
}

void RemoteSystemOps::undo_all(Finished done) {
  send_for_status(FrameKind::kUndoAll, std::move(done));
}

void RemoteSystemOps::leave(Finished done) {
  send_for_status(FrameKind::kLeave, std::move(done));
}

void RemoteSystemOps::send_for_status(FrameKind kind, Finished done) {
  Waiting waiting;
  waiting.done = [done = std::move(done)](Result<std::vector<net::SystemAnswer>> answers,
                                          const UniqueFd& /*descriptor*/) {
    done(answers ? net::first_error(*answers) : Status(answers.error()));
  };
  send({kind, {}}, std::move(waiting));
}

void RemoteSystemOps::open_socket(const SocketRequest& request, Opened done) {
  Waiting waiting;
  waiting.done = [done = std::move(done)](Result<std::vector<net::SystemAnswer>> answers,
                                          UniqueFd descriptor) mutable {
    if (!answers) return done(std::move(answers.error()));
    if (Status opened = net::first_error(*answers); !opened) return done(std::move(opened.error()));
    if (!descriptor.valid()) return done(gone("it sent no socket"));
    done(std::move(descriptor));
  };
  send({FrameKind::kSocket, to_text(request)}, std::move(waiting));
}

void RemoteSystemOps::send(Frame frame, Waiting waiting) {
  if (lost_) {
    loop_.post([waiting = std::make_shared<Waiting>(std::move(waiting)), why = *lost_] {
      waiting->done(why, {});
    });
    return;
  }
  waiting_.push_back(std::move(waiting));
  output_ += write_frame(frame);
  flush();
}

void RemoteSystemOps::on_ready(unsigned ready) {
  if ((ready & loop::kWritable) != 0) flush();
  if ((ready & loop::kReadable) != 0) receive();
}

// What nobody reads any more is dropped; that the helper has ended shows when something is read.
void RemoteSystemOps::flush() {
  while (!output_.empty()) {
    const ssize_t sent =
        ::send(socket_.get(), output_.data(), output_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) {
      output_.clear();
      break;
    }
    if (sent < 0) {
      poll_.set_interest(loop::kReadable | loop::kWritable);
      return;
    }
    output_.erase(0, static_cast<size_t>(sent));
  }
  poll_.set_interest(loop::kReadable);
}

void RemoteSystemOps::receive() {
  std::vector<std::byte> bytes(kReceiveBytes);
  while (!lost_) {
    Received received = receive_some(socket_.get(), bytes);
    if (received.size < 0 && errno == EINTR) continue;
    if (received.size < 0 && errno == EAGAIN) return;
    if (received.size <= 0) return lose("it has ended");
    if (received.descriptor.valid()) descriptors_.push_back(std::move(received.descriptor));
    buffer_.feed(Bytes(bytes).first(static_cast<size_t>(received.size)));
    while (!lost_) {
      auto frame = buffer_.next();
      if (!frame) return lose(frame.error().message());
      if (!*frame) break;
      take(**frame);
    }
  }
}

void RemoteSystemOps::take(const Frame& frame) {
  if (frame.kind != FrameKind::kAnswers || waiting_.empty()) return lose("it spoke out of turn");
  auto answers = parse_answers(frame.text);
  if (!answers) return lose(answers.error().message());
  if (answers->size() != waiting_.front().expected) return lose("it answered something else");
  Waiting waiting = std::move(waiting_.front());
  waiting_.pop_front();
  UniqueFd descriptor;
  if (!descriptors_.empty()) {
    descriptor = std::move(descriptors_.front());
    descriptors_.pop_front();
  }
  waiting.done(std::move(*answers), std::move(descriptor));
}

void RemoteSystemOps::lose(std::string why) {
  lost_ = gone(std::move(why));
  poll_.stop();
  for (Waiting& waiting : std::exchange(waiting_, {}))
    waiting.done(*lost_, {});
  on_lost_(*lost_);
}

}  // namespace culvert::helper
