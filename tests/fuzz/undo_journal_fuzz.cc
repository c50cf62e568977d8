// What an earlier process has left in the undo journal: whatever it is, nothing but valid requests
// comes out of it, and memory and file agree through everything that is done with it.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "common/net/undo_journal.h"
#include "tests/fuzz/fuzz.h"

using namespace culvert;
using fuzz::require;

namespace {

// In memory where there is such a place: the journal is synced for each change.
class Folder {
 public:
  Folder() : path_(std::filesystem::is_directory("/dev/shm") ? "/dev/shm/" : "/tmp/") {
    path_ += "culvert-fuzz-XXXXXX";
    require(::mkdtemp(path_.data()) != nullptr, "a temporary folder can be made");
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string file() const { return path_ + "/journal"; }

 private:
  std::string path_;
};

void write_file(const std::string& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  require(fd.valid() &&
              ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()),
          "the journal can be written");
}

net::UndoJournal reopen(const std::string& path) {
  auto journal = net::UndoJournal::open(path);
  require(journal.has_value(), "what was opened can be opened again");
  return std::move(*journal);
}

using Requests = std::vector<net::SystemRequest>;

// One change is written down, every second one is undone. Returns what is left then.
Requests work_with(net::UndoJournal journal) {
  const Requests before = journal.pending();
  for (const auto& request : before)
    require(net::validate(request).has_value(), "what is to be undone is valid");
  net::SystemRequest extra = net::DelAddress{"tun0", Prefix::host(IpAddress::v4(0x0a000001))};
  if (!before.empty()) extra = before.front();
  if (!journal.record(extra)) {
    require(journal.pending() == before, "what could not be written down is not pending");
    return before;
  }
  require(journal.pending().size() == before.size() + 1 && journal.contains(extra),
          "a change is pending then");
  bool succeeds = false;
  (void)journal.undo_all([&](const net::SystemRequest&) -> Status {
    succeeds = !succeeds;
    if (succeeds) return {};
    return fail(ErrorCode::kFailure, "not this one");
  });
  require(journal.pending().size() == (before.size() + 1) / 2, "what failed stays pending");
  return journal.pending();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  const std::string path = folder.file();
  write_file(path, as_text(fuzz::input(data, size)));
  Requests pending;
  {
    auto journal = net::UndoJournal::open(path);
    if (!journal) {
      require(journal.error().code == ErrorCode::kFailure && !journal.error().hint.empty(),
              "what is no journal stays, and somebody is told");
      return 0;
    }
    pending = journal->pending();
  }
  require(reopen(path).pending() == pending, "reading changes nothing");
  const Requests left = work_with(reopen(path));
  {
    net::UndoJournal journal = reopen(path);
    require(journal.pending() == left, "the file says the same as memory");
    journal.settle();
  }
  require(reopen(path).empty(), "a settled journal is empty");
  return 0;
}
