// UndoJournal: what was changed in the system and how to put it back, in a file, so that the
// leftovers of a process that was killed are undone by the next start (or by `culvert cleanup`).
// One line per change, written and synced before the change is made. The file is locked while it is
// open, so that nobody undoes the changes of a process that still runs.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/base/unique_fd.h"
#include "common/net/netlink.h"
#include "common/net/system_request.h"

namespace culvert::net {

class UndoJournal {
 public:
  // Creates the file (mode 0600) or takes up what an earlier process left: pending() then says what
  // has to be undone. A half-written last line is a change that was never made and is dropped; any
  // other line that cannot be read is kept out and counted by unreadable(). kAlreadyUp if a living
  // process holds the journal.
  static Result<UndoJournal> open(std::string path);

  UndoJournal(UndoJournal&&) noexcept = default;
  UndoJournal& operator=(UndoJournal&&) noexcept = default;

  // Writes down what will undo the change that is about to be made. On an error the change must not
  // be made.
  Status record(const SystemRequest& inverse);
  // The newest entry equal to `inverse` is not needed any more: the change was not made after all,
  // or was taken back. Nothing happens if there is none.
  void strike(const SystemRequest& inverse);
  // Everything is as it was: empties the journal.
  void settle();

  // Newest first: the order in which to undo.
  [[nodiscard]] std::vector<SystemRequest> pending() const;
  [[nodiscard]] bool contains(const SystemRequest& inverse) const;
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  // Lines that an earlier process left and that made no sense.
  [[nodiscard]] size_t unreadable() const { return unreadable_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  // Executes everything pending, newest first, and strikes what succeeded. Goes on after a failure;
  // returns the first one, and what failed stays pending.
  Status undo_all(Netlink& netlink);
  // The same with another way to execute, for tests and for callers without a netlink socket.
  Status undo_all(const std::function<Status(const SystemRequest&)>& execute);

  // Removes the file. REQUIRES: empty(). The journal may not be used afterwards.
  void remove();

 private:
  struct Entry {
    size_t number;
    SystemRequest inverse;
  };

  UndoJournal(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Status load();
  void load_line(std::string_view text);
  Status append(std::string_view lines);
  void strike_entry(size_t index);

  std::string path_;
  UniqueFd fd_;
  std::vector<Entry> entries_;  // oldest first
  size_t size_ = 0;             // bytes of complete lines in the file
  size_t next_number_ = 1;
  size_t unreadable_ = 0;
  bool broken_ = false;  // the file ends in half a line that could not be removed
};

}  // namespace culvert::net
