#include "common/helper/helper_process.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/helper/protocol.h"
#include "common/net/system_executor.h"
#include "common/net/udp_socket.h"

namespace culvert::helper {
namespace {

constexpr size_t kReceiveBytes = size_t{64} << 10;

net::SystemAnswer answer_of(Status status) {
  net::SystemAnswer answer;
  if (!status) answer.error = std::move(status.error());
  return answer;
}

// The helper of a program that was killed may be about to finish with the journal.
Result<net::UndoJournal> open_journal(const std::string& path) {
  constexpr Duration kLimit = std::chrono::seconds(10);
  constexpr timespec kPause{0, 20'000'000};
  const TimePoint deadline = BootClock::now() + kLimit;
  auto journal = net::UndoJournal::open(path);
  while (!journal && journal.error().code == ErrorCode::kAlreadyUp && BootClock::now() < deadline) {
    ::nanosleep(&kPause, nullptr);
    journal = net::UndoJournal::open(path);
  }
  return journal;
}

// Another run may have put a file of its own in its place, which stays.
class OwnFile {
 public:
  explicit OwnFile(std::string path) : path_(std::move(path)) { there_ = look(made_); }
  void remove() const {
    struct stat now {};
    if (there_ && look(now) && now.st_dev == made_.st_dev && now.st_ino == made_.st_ino)
      ::unlink(path_.c_str());
  }

 private:
  bool look(struct stat& found) const { return ::lstat(path_.c_str(), &found) == 0; }

  std::string path_;
  struct stat made_ {};
  bool there_ = false;
};

class Helper {
 public:
  Helper(UniqueFd socket, const std::function<Status()>& reduce)
      : socket_(std::move(socket)), reduce_(reduce) {}

  int run() {
    const Status served = serve();
    if (!served) log::error("helper", "ended", {{"why", served.error().message()}});
    const Status undone = executor_ ? leave() : Status();
    if (!undone)
      log::error("helper", "not everything could be put back", {{"why", undone.error().message()}});
    return served && undone ? 0 : 1;
  }

 private:
  Status serve() {
    std::vector<std::byte> bytes(kReceiveBytes);
    while (!refused_) {
      auto frame = buffer_.next();
      if (!frame) return std::move(frame.error());
      if (*frame) {
        if (Status done = take(**frame); !done) return done;
        continue;
      }
      const ssize_t size = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) return {};  // a reset is an end like any other
      buffer_.feed(Bytes(bytes).first(static_cast<size_t>(size)));
    }
    return {};
  }

  // An error ends the helper: a program that says what it never says is not itself any more.
  Status take(const Frame& frame) {
    if (frame.kind == FrameKind::kBegin && !executor_) return begin(frame.text);
    if (!executor_) return fail(ErrorCode::kUsage, "something else than the beginning came first");
    switch (frame.kind) {
      case FrameKind::kRequests:
        return carry_out(frame.text);
      case FrameKind::kSocket:
        return open_socket(frame.text);
      case FrameKind::kUndoAll:
        return answer({answer_of(executor_->undo_all())});
      case FrameKind::kLeave:
        return answer({answer_of(leave())});
      case FrameKind::kBegin:
      case FrameKind::kAnswers:
        break;
    }
    return fail(ErrorCode::kUsage, "a frame that the program never sends");
  }

  Status leave() {
    if (control_socket_) control_socket_->remove();
    control_socket_.reset();
    return executor_->undo_all();
  }

  Status begin(std::string_view text) {
    auto begin = parse_begin(text);
    if (!begin) return std::move(begin.error());
    scope_ = begin->scope;
    if (!begin->control_socket.empty()) control_socket_.emplace(begin->control_socket);
    Status ready = open(begin->journal);
    if (ready) ready = reduce_();
    refused_ = !ready;  // the program says why, and ends
    return answer({answer_of(std::move(ready))});
  }

  Status open(const std::string& path) {
    auto netlink = net::Netlink::open();
    if (!netlink) return std::move(netlink.error());
    auto journal = open_journal(path);
    if (!journal) return std::move(journal.error());
    if (journal->unreadable() > 0)
      log::warning("helper", "the journal has lines that make no sense",
                   {{"file", path}, {"lines", journal->unreadable()}});
    if (const size_t left = journal->pending().size(); left != 0) {
      log::warning("helper", "putting back what a killed run has left", {{"changes", left}});
      if (Status undone = journal->undo_all(*netlink); !undone) return undone;
    }
    executor_.emplace(std::move(*netlink), std::make_unique<net::UndoJournal>(std::move(*journal)),
                      scope_.device);
    return {};
  }

  Status carry_out(std::string_view text) {
    const auto requests = parse_requests(text);
    if (!requests) return requests.error();
    std::vector<net::SystemAnswer> answers;
    bool failed = false;
    for (const net::SystemRequest& request : *requests) {
      if (failed) {
        answers.push_back(net::not_attempted(request));
        continue;
      }
      Status permitted = net::permits(scope_, request);
      answers.push_back(permitted ? executor_->carry_out(request) : answer_of(permitted));
      failed = !answers.back().ok();
    }
    return answer(answers);
  }

  Status open_socket(std::string_view text) {
    const auto request = parse_socket_request(text);
    if (!request) return request.error();
    if (scope_.role != net::SystemScope::Role::kClient)
      return fail(ErrorCode::kPermission, "this program asks for no sockets");
    const int family = request->family == Family::kV4 ? AF_INET : AF_INET6;
    const int type = request->stream ? SOCK_STREAM : SOCK_DGRAM;
    const UniqueFd opened(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const auto buffer = static_cast<int>(net::UdpOptions().buffer_bytes);
    for (const int name : {SO_RCVBUFFORCE, SO_SNDBUFFORCE})  // TCP's grow by themselves
      if (!request->stream) ::setsockopt(opened.get(), SOL_SOCKET, name, &buffer, sizeof buffer);
    Status status;
    if (!opened.valid()) {
      status = fail_errno(ErrorCode::kNetwork, errno, "cannot open a socket");
    } else if (::setsockopt(opened.get(), SOL_SOCKET, SO_MARK, &request->mark,
                            sizeof request->mark) != 0) {
      status = fail_errno(errno == EPERM ? ErrorCode::kPermission : ErrorCode::kFailure, errno,
                          "cannot mark a connection's packets", {}, "run this as root");
    }
    return answer({answer_of(status)}, status ? opened.get() : -1);
  }

  // A descriptor goes with the first byte (unix(7), SCM_RIGHTS).
  Status answer(const std::vector<net::SystemAnswer>& answers, int descriptor = -1) {
    const std::string text = write_frame({FrameKind::kAnswers, to_text(answers)});
    for (size_t sent = 0; sent < text.size();) {
      iovec part{const_cast<char*>(text.data()) + sent, text.size() - sent};
      alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
      msghdr message{};
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      if (descriptor >= 0 && sent == 0) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof descriptor);
        std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
      }
      const ssize_t size = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return {};  // nobody listens any more: the next read says so
      sent += static_cast<size_t>(size);
    }
    return {};
  }

  UniqueFd socket_;
  const std::function<Status()>& reduce_;
  FrameBuffer buffer_;
  net::SystemScope scope_;
  bool refused_ = false;
  std::optional<OwnFile> control_socket_;
  std::optional<net::SystemExecutor> executor_;
};

}  // namespace

int serve(UniqueFd socket, const std::function<Status()>& reduce) {
  return Helper(std::move(socket), reduce).run();
}

}  // namespace culvert::helper
