#include "common/net/undo_journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>

#include "common/base/text.h"
#include "common/net/system_ops.h"

// The file:
//
//   culvert-undo 1
//   +1 del_route destination=10.0.0.0/8 …      change number 1 is undone by this request
//   -1                                         and need not be any more
//
// Numbers only grow: a line with one that was there before cannot be ours.
// Lines are only ever appended, each with one write(2), or the whole file is emptied.

namespace culvert::net {
namespace {

constexpr std::string_view kHeader = "culvert-undo 1\n";
constexpr size_t kMaxSize = size_t{64} << 20;
constexpr int kLockTries = 10;

Error file_error(int error, std::string_view what, const std::string& path) {
  const bool denied = error == EACCES || error == EPERM;
  return fail_errno(denied ? ErrorCode::kPermission : ErrorCode::kFailure, error, what, path);
}

// True if `fd` is what now stands at `path`, and not a file that was removed before it was locked.
bool is_at(int fd, const std::string& path) {
  struct stat by_fd {};
  struct stat by_path {};
  return fstat(fd, &by_fd) == 0 && lstat(path.c_str(), &by_path) == 0 &&
         by_fd.st_dev == by_path.st_dev && by_fd.st_ino == by_path.st_ino;
}

// An existing file first and without O_CREAT: with fs.protected_regular = 2 (Debian's setting) the
// latter is refused, even to root, for a service user's file in a sticky folder.
UniqueFd open_or_create(const std::string& path) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
  UniqueFd fd(::open(path.c_str(), kFlags));
  if (!fd.valid() && errno == ENOENT) {
    fd.reset(::open(path.c_str(), kFlags | O_CREAT | O_EXCL, 0600));
  }
  return fd;
}

Result<UniqueFd> open_locked(const std::string& path) {
  for (int i = 0; i < kLockTries; ++i) {
    UniqueFd fd = open_or_create(path);
    if (!fd.valid() && errno == EEXIST) continue;  // somebody else was faster
    if (!fd.valid()) return file_error(errno, "cannot open the undo journal", path);
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return file_error(errno, "cannot lock the undo journal", path);
      return fail(ErrorCode::kAlreadyUp, "the undo journal belongs to a running process", path);
    }
    if (is_at(fd.get(), path)) return fd;
  }
  return fail(ErrorCode::kFailure, "the undo journal is replaced all the time", path);
}

Result<std::string> read_all(int fd, const std::string& path) {
  std::string text;
  std::array<char, 65536> buffer{};
  for (;;) {
    const ssize_t count = pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_error(errno, "cannot read the undo journal", path);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(count));
    if (text.size() > kMaxSize) return fail(ErrorCode::kFailure, "undo journal too large", path);
  }
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) text.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// A device that was unplugged has taken its settings along: nothing is left to put back.
bool is_gone(const SystemRequest& request) {
  const auto* sysctl = std::get_if<SetSysctl>(&request);
  return sysctl != nullptr && validate(request) &&
         ::access(("/proc/sys/" + sysctl->path).c_str(), F_OK) != 0 && errno == ENOENT;
}

// Larger ones are neither read nor written, so that counting never starts over.
constexpr size_t kMaxNumber = SIZE_MAX / 2;

struct Line {
  bool added = false;
  size_t number = 0;
  std::string_view rest;
};

std::optional<Line> parse_line(std::string_view text) {
  if (text.empty() || (text[0] != '+' && text[0] != '-')) return std::nullopt;
  const bool added = text[0] == '+';
  text.remove_prefix(1);
  const size_t space = std::min(text.find(' '), text.size());
  const auto number = parse_decimal(text.substr(0, space), 1, kMaxNumber);
  if (!number || added == (space == text.size())) return std::nullopt;
  return Line{added, static_cast<size_t>(*number), text.substr(std::min(space + 1, text.size()))};
}

}  // namespace

Result<UndoJournal> UndoJournal::open(std::string path) {
  auto fd = open_locked(path);
  if (!fd) return fd.error();
  UndoJournal journal(std::move(path), std::move(*fd));
  if (auto loaded = journal.load(); !loaded) return loaded.error();
  return journal;
}

Status UndoJournal::load() {
  auto text = read_all(fd_.get(), path_);
  if (!text) return text.error();
  // Without its newline the last line is half a line, and its change was never made.
  const size_t complete = text->rfind('\n') == std::string::npos ? 0 : text->rfind('\n') + 1;
  if (ftruncate(fd_.get(), static_cast<off_t>(complete)) != 0) {
    return file_error(errno, "cannot repair the undo journal", path_);
  }
  text->resize(complete);
  if (!text->empty() && text->rfind(kHeader, 0) != 0) {
    return fail(ErrorCode::kFailure, "not an undo journal, or of another version", path_,
                "look into it, put things back by hand, and remove it");
  }
  size_ = complete;
  if (complete == 0) return append(std::string(kHeader));

  for (const auto line : split(std::string_view(*text).substr(kHeader.size()), '\n')) {
    load_line(line);
  }
  if (entries_.empty() && unreadable_ == 0) settle();
  return {};
}

void UndoJournal::load_line(std::string_view text) {
  if (text.empty()) return;
  const auto line = parse_line(text);
  if (!line || (line->added && line->number < next_number_)) {
    ++unreadable_;
    return;
  }
  next_number_ = std::max(next_number_, line->number + 1);
  if (!line->added) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.number == line->number; });
    return;
  }
  auto request = parse_request(line->rest);
  if (request) {
    entries_.push_back({line->number, std::move(*request)});
  } else {
    ++unreadable_;
  }
}

Status UndoJournal::append(std::string_view lines) {
  if (!write_all(fd_.get(), lines)) {
    const int error = errno;
    // Half a line would swallow the next one.
    if (ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0) broken_ = true;
    return file_error(error, "cannot write the undo journal", path_);
  }
  size_ += lines.size();
  return {};
}

Status UndoJournal::record(const SystemRequest& inverse) {
  if (broken_ || next_number_ > kMaxNumber)
    return fail(ErrorCode::kFailure, "the undo journal is damaged", path_);
  const size_t number = next_number_++;
  auto written = append("+" + std::to_string(number) + " " + to_text(inverse) + "\n");
  if (!written) return written;
  entries_.push_back({number, inverse});
  if (fdatasync(fd_.get()) != 0) {
    const int error = errno;
    strike_entry(entries_.size() - 1);
    return file_error(error, "cannot sync the undo journal", path_);
  }
  return {};
}

void UndoJournal::strike(const SystemRequest& inverse) {
  for (size_t i = entries_.size(); i-- > 0;) {
    if (entries_[i].inverse == inverse) {
      strike_entry(i);
      return;
    }
  }
}

// Not synced: if the line is lost, the start after the crash undoes what is undone already, which
// changes nothing.
void UndoJournal::strike_entry(size_t index) {
  const size_t number = entries_[index].number;
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(index));
  if (entries_.empty() && unreadable_ == 0) {
    settle();
    return;
  }
  // An error here is no worse than the line being lost, see above.
  const auto written = append("-" + std::to_string(number) + "\n");
  static_cast<void>(written);
}

void UndoJournal::settle() {
  entries_.clear();
  unreadable_ = 0;
  if (ftruncate(fd_.get(), static_cast<off_t>(kHeader.size())) == 0) size_ = kHeader.size();
}

std::vector<SystemRequest> UndoJournal::pending() const {
  std::vector<SystemRequest> requests;
  requests.reserve(entries_.size());
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    requests.push_back(entry->inverse);
  }
  return requests;
}

bool UndoJournal::contains(const SystemRequest& inverse) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& entry) { return entry.inverse == inverse; });
}

Status UndoJournal::undo_all(Netlink& netlink) {
  return undo_all([&netlink](const SystemRequest& request) -> Status {
    if (is_gone(request)) return {};
    const SystemAnswer answer = execute(netlink, request);
    if (answer.error) return *answer.error;
    return {};
  });
}

Status UndoJournal::undo_all(const std::function<Status(const SystemRequest&)>& execute) {
  Status first;
  for (size_t i = entries_.size(); i-- > 0;) {
    auto undone = execute(entries_[i].inverse);
    if (undone) {
      strike_entry(i);
    } else if (first) {
      first = std::move(undone);
    }
  }
  return first;
}

void UndoJournal::remove() {
  assert(empty());
  // While the lock is held, so that nobody's new journal is removed.
  unlink(path_.c_str());
  fd_.reset();
}

}  // namespace culvert::net
