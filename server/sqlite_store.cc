#include "server/sqlite_store.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <utility>

#include "common/base/log.h"

namespace culvert::server {
namespace {

constexpr int64_t kSchemaVersion = 1;
constexpr const char* kSchema = R"(
  CREATE TABLE session (
    id INTEGER PRIMARY KEY, user TEXT NOT NULL, cookie_hash BLOB NOT NULL, key_hash BLOB NOT NULL,
    ipv4 TEXT, ipv6 TEXT, user_agent TEXT NOT NULL, logged_in_at INTEGER NOT NULL,
    expires INTEGER);
  CREATE TABLE certificate (
    session INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE, place INTEGER NOT NULL,
    der BLOB NOT NULL, PRIMARY KEY (session, place)) WITHOUT ROWID;
  CREATE TABLE lease (
    address TEXT PRIMARY KEY, user TEXT NOT NULL, released INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE server (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
  PRAGMA user_version = 1;
)";
constexpr auto kTryAgainAfter = std::chrono::seconds(5);

int64_t seconds_of(WallTime time) {
  return time.time_since_epoch().count();
}

WallTime wall_time(int64_t seconds) {
  return WallTime(std::chrono::seconds(seconds));
}

bool read_hash(Bytes blob, tls::Sha256& hash) {
  if (blob.size() != hash.size()) return false;
  std::copy(blob.begin(), blob.end(), hash.begin());
  return true;
}

// False: there is an address, and it is none.
bool read_address(const SqliteStatement& row, int column, std::optional<IpAddress>& address) {
  if (row.is_null(column)) return true;
  const auto parsed = IpAddress::parse(row.text(column));
  if (parsed) address = *parsed;
  return parsed.has_value();
}

void bind_address(SqliteStatement& statement, const std::optional<IpAddress>& address) {
  if (address)
    statement.bind(address->to_string());
  else
    statement.bind_null();
}

Status for_each_row(SqliteDatabase& database, std::string_view sql,
                    const std::function<void(const SqliteStatement&)>& visit) {
  auto statement = database.prepare(sql);
  if (!statement) return std::move(statement.error());
  while (true) {
    const auto row = statement->step();
    if (!row) return row.error();
    if (!*row) return {};
    visit(*statement);
  }
}

// ---- reading ------------------------------------------------------------------------------------

Status read_sessions(SqliteDatabase& database, StoredState& state) {
  size_t senseless = 0;
  Status read = for_each_row(
      database,
      "SELECT id, user, cookie_hash, key_hash, ipv4, ipv6, user_agent, logged_in_at, expires "
      "FROM session ORDER BY id",
      [&](const SqliteStatement& row) {
        StoredSession session;
        session.id = SessionId(static_cast<uint64_t>(row.integer(0)));
        session.user = row.text(1);
        const bool sound = read_hash(row.blob(2), session.cookie_hash) &&
                           read_hash(row.blob(3), session.key_hash) &&
                           read_address(row, 4, session.ipv4) && read_address(row, 5, session.ipv6);
        session.user_agent = row.text(6);
        session.logged_in_at = wall_time(row.integer(7));
        if (!row.is_null(8)) session.expires = wall_time(row.integer(8));
        if (sound)
          state.sessions.push_back(std::move(session));
        else
          ++senseless;
      });
  if (senseless != 0)
    log::warning("store", "sessions of the last run left out", {{"senseless", senseless}});
  return read;
}

Status read_certificates(SqliteDatabase& database, StoredState& state) {
  return for_each_row(
      database, "SELECT session, der FROM certificate ORDER BY session, place",
      [&](const SqliteStatement& row) {
        const SessionId id(static_cast<uint64_t>(row.integer(0)));
        const auto found = std::lower_bound(
            state.sessions.begin(), state.sessions.end(), id,
            [](const StoredSession& session, SessionId wanted) { return session.id < wanted; });
        if (found == state.sessions.end() || found->id != id) return;
        const Bytes der = row.blob(1);
        found->chain.emplace_back(der.begin(), der.end());
      });
}

Status read_leases(SqliteDatabase& database, StoredState& state) {
  return for_each_row(database, "SELECT address, user FROM lease ORDER BY released",
                      [&](const SqliteStatement& row) {
                        const auto address = IpAddress::parse(row.text(0));
                        if (address) state.leases.push_back({*address, std::string(row.text(1))});
                      });
}

Status read_numbers(SqliteDatabase& database, StoredState& state) {
  return for_each_row(database, "SELECT name, value FROM server", [&](const SqliteStatement& row) {
    if (row.text(0) == "last_id") state.last_id = static_cast<uint64_t>(row.integer(1));
    if (row.text(0) == "alive_at") state.alive_at = wall_time(row.integer(1));
  });
}

Result<int64_t> single_integer(SqliteDatabase& database, std::string_view sql) {
  int64_t value = 0;
  const Status read =
      for_each_row(database, sql, [&](const SqliteStatement& row) { value = row.integer(0); });
  if (!read) return read.error();
  return value;
}

struct Loaded {
  SqliteDatabase database;
  StoredState state;
  uint64_t last_order = 0;
};

Result<Loaded> load(const std::string& path) {
  auto database = SqliteDatabase::open(path);
  if (!database) return std::move(database.error());
  const auto version = single_integer(*database, "PRAGMA user_version");
  if (!version) return version.error();
  if (*version == 0) {
    if (Status made = database->execute(kSchema); !made) return std::move(made.error());
  } else if (*version != kSchemaVersion) {
    return fail(ErrorCode::kUsage, "the database is of an unknown version", path);
  }
  Loaded loaded{std::move(*database), {}, 0};
  for (const auto& read : {read_sessions, read_certificates, read_leases, read_numbers}) {
    if (Status done = read(loaded.database, loaded.state); !done) return std::move(done.error());
  }
  const auto order = single_integer(loaded.database, "SELECT max(released) FROM lease");
  if (!order) return order.error();
  loaded.last_order = static_cast<uint64_t>(*order);
  return loaded;
}

void move_aside(const std::string& path) {
  for (const char* const suffix : {"", "-wal"}) {
    const std::string from = path + suffix;
    std::rename(from.c_str(), (path + ".unusable" + suffix).c_str());
  }
}

}  // namespace

// ---- writing ------------------------------------------------------------------------------------

class SqliteStore::Writer {
 public:
  static Result<std::unique_ptr<Writer>> create(SqliteDatabase database) {
    std::unique_ptr<Writer> writer(new Writer(std::move(database)));
    constexpr std::array<std::string_view, kStatements> kTexts = {
        "BEGIN IMMEDIATE",
        "COMMIT",
        "ROLLBACK",
        "INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        "INSERT INTO certificate VALUES (?1, ?2, ?3)",
        "DELETE FROM session WHERE id = ?1",
        "INSERT OR REPLACE INTO lease VALUES (?1, ?2, ?3)",
        "INSERT INTO server VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = max(value, ?2)"};
    for (const std::string_view text : kTexts) {
      auto statement = writer->database_.prepare(text);
      if (!statement) return std::move(statement.error());
      writer->statements_.push_back(std::move(*statement));
    }
    return writer;
  }

  Status write(const Pending& batch) {
    if (Status begun = get(kBegin).run(); !begun) return begun;
    Status written = write_all(batch);
    if (written) written = get(kCommit).run();
    if (!written) static_cast<void>(get(kRollback).run());  // some errors have done so already
    return written;
  }

 private:
  enum Kind : size_t {
    kBegin,
    kCommit,
    kRollback,
    kSaveSession,
    kSaveCertificate,
    kRemoveSession,
    kSaveLease,
    kSaveNumber,
    kStatements
  };

  explicit Writer(SqliteDatabase database) : database_(std::move(database)) {}
  SqliteStatement& get(Kind kind) { return statements_[kind]; }

  Status write_all(const Pending& batch) {
    for (const auto& [id, session] : batch.sessions) {
      Status done = session ? save(*session) : remove(id);
      if (!done) return done;
    }
    for (const auto& [address, lease] : batch.leases) {
      Status done = get(kSaveLease)
                        .bind(address.to_string())
                        .bind(lease.user)
                        .bind(static_cast<int64_t>(lease.order))
                        .run();
      if (!done) return done;
    }
    if (batch.alive_at) return save_number("alive_at", seconds_of(*batch.alive_at));
    return {};
  }

  // Replacing takes the certificates with it.
  Status save(const StoredSession& session) {
    const auto id = static_cast<int64_t>(session.id.value());
    SqliteStatement& row = get(kSaveSession);
    row.bind(id).bind(session.user).bind(Bytes(session.cookie_hash)).bind(Bytes(session.key_hash));
    bind_address(row, session.ipv4);
    bind_address(row, session.ipv6);
    row.bind(session.user_agent).bind(seconds_of(session.logged_in_at));
    if (session.expires)
      row.bind(seconds_of(*session.expires));
    else
      row.bind_null();
    if (Status saved = row.run(); !saved) return saved;
    int64_t place = 0;
    for (const auto& der : session.chain) {
      Status saved = get(kSaveCertificate).bind(id).bind(place++).bind(Bytes(der)).run();
      if (!saved) return saved;
    }
    return save_number("last_id", id);
  }

  Status remove(SessionId id) {
    return get(kRemoveSession).bind(static_cast<int64_t>(id.value())).run();
  }

  Status save_number(std::string_view name, int64_t value) {
    return get(kSaveNumber).bind(name).bind(value).run();
  }

  SqliteDatabase database_;  // goes after its statements
  std::vector<SqliteStatement> statements_;
};

void SqliteStore::Pending::fill_from(Pending older) {
  sessions.merge(std::move(older.sessions));
  leases.merge(std::move(older.leases));
  if (!alive_at) alive_at = older.alive_at;
}

Result<SqliteStore::Opened> SqliteStore::open(const std::string& path) {
  auto loaded = load(path);
  if (!loaded && loaded.error().code == ErrorCode::kUsage) {
    log::warning("store", "the state of the last run cannot be used and is moved aside",
                 {{"file", path}, {"why", loaded.error().what}});
    move_aside(path);
    loaded = load(path);
  }
  if (!loaded) return std::move(loaded.error());
  auto writer = Writer::create(std::move(loaded->database));
  if (!writer) return std::move(writer.error());
  Opened opened;
  opened.store =
      std::unique_ptr<SqliteStore>(new SqliteStore(std::move(*writer), path, loaded->last_order));
  opened.state = std::move(loaded->state);
  return opened;
}

SqliteStore::SqliteStore(std::unique_ptr<Writer> writer, std::string path, uint64_t last_order)
    : writer_(std::move(writer)),
      path_(std::move(path)),
      last_order_(last_order),
      thread_([this] { work(); }) {}

SqliteStore::~SqliteStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void SqliteStore::change(const std::function<void(Pending&)>& how) {
  {
    const std::lock_guard lock(mutex_);
    how(pending_);
  }
  wake_.notify_one();
}

void SqliteStore::save(StoredSession session) {
  change([&](Pending& pending) {
    const SessionId id = session.id;
    pending.sessions[id] = std::move(session);
  });
}

void SqliteStore::remove(SessionId id) {
  change([&](Pending& pending) { pending.sessions[id].reset(); });
}

void SqliteStore::note_lease(Lease lease) {
  change([&](Pending& pending) {
    pending.leases[lease.address] = {++last_order_, std::move(lease.user)};
  });
}

void SqliteStore::note_alive(WallTime now) {
  change([&](Pending& pending) { pending.alive_at = now; });
}

void SqliteStore::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stopping_ || !pending_.empty(); });
    const bool last = stopping_;
    Pending batch = std::exchange(pending_, {});
    lock.unlock();
    const bool written = batch.empty() || write(batch);
    lock.lock();
    if (!written) pending_.fill_from(std::move(batch));
    if (last) return;
    if (!written) wake_.wait_for(lock, kTryAgainAfter, [&] { return stopping_; });
  }
}

bool SqliteStore::write(const Pending& batch) {
  const Status written = writer_->write(batch);
  if (!written && !std::exchange(failing_, true)) {
    log::error("store", "sessions cannot be saved; they go on, but would not survive a restart",
               {{"file", path_}, {"why", written.error().what}});
  } else if (written && std::exchange(failing_, false)) {
    log::info("store", "sessions are saved again", {{"file", path_}});
  }
  return written.has_value();
}

}  // namespace culvert::server
