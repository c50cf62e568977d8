// SqliteStore: the store in a file of SQLite, written by a thread of its own.
//
// What comes in waits in memory, newest word per session and address, until the thread has written
// all of it in one transaction (write-ahead log without a sync for each: what a power failure takes
// with it are the last moments, and then clients log in anew). While the disk is full this goes on;
// the thread tries again every few seconds.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>

#include "common/base/result.h"
#include "server/sqlite.h"
#include "server/store.h"

namespace culvert::server {

class SqliteStore final : public Store {
 public:
  struct Opened {
    std::unique_ptr<SqliteStore> store;
    StoredState state;
  };
  // Reads what there is and starts the thread. The file is made if it is missing; one that is
  // damaged or of an unknown version is moved aside ("PATH.unusable") and begun anew, with a
  // warning. Rows that make no sense are left out. Errors: as SqliteDatabase::open().
  static Result<Opened> open(const std::string& path);

  // Writes what is still waiting.
  ~SqliteStore() override;
  SqliteStore(const SqliteStore&) = delete;
  SqliteStore& operator=(const SqliteStore&) = delete;

  void save(StoredSession session) override;
  void remove(SessionId id) override;
  void note_lease(Lease lease) override;
  void note_alive(WallTime now) override;

 private:
  struct Pending {
    std::map<SessionId, std::optional<StoredSession>> sessions;  // nothing: removed
    struct LeaseOf {
      uint64_t order = 0;
      std::string user;
    };
    std::unordered_map<IpAddress, LeaseOf> leases;
    std::optional<WallTime> alive_at;

    [[nodiscard]] bool empty() const {
      return sessions.empty() && leases.empty() && !alive_at.has_value();
    }
    // Takes over what `older` says and this does not.
    void fill_from(Pending older);
  };
  class Writer;

  SqliteStore(std::unique_ptr<Writer> writer, std::string path, uint64_t last_order);
  void change(const std::function<void(Pending&)>& how);
  void work();
  // False: nothing of it was written.
  bool write(const Pending& batch);

  std::unique_ptr<Writer> writer_;  // used by the thread alone
  const std::string path_;
  bool failing_ = false;  // of the thread: said already

  std::mutex mutex_;
  std::condition_variable wake_;
  Pending pending_;          // guarded by mutex_, as are those below
  uint64_t last_order_ = 0;  // of leases
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace culvert::server
