#include "server/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <cerrno>
#include <utility>

#include "common/base/unique_fd.h"

namespace culvert::server {
namespace {

Error to_error(int result, const char* text, const std::string& where) {
  ErrorCode code = ErrorCode::kFailure;
  switch (result & 0xff) {  // the rest of the number is a refinement
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      code = ErrorCode::kAlreadyUp;
      break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      code = ErrorCode::kPermission;
      break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      code = ErrorCode::kUsage;
      break;
    default:
      break;
  }
  return fail(code, std::string("the database cannot be used: ") + text, where);
}

// SQLite would make the file with the rights that the umask leaves.
Status make_private_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (file.valid()) return {};
  const ErrorCode code = errno == EACCES ? ErrorCode::kPermission : ErrorCode::kFailure;
  return fail_errno(code, errno, "cannot open the database", path);
}

}  // namespace

// ---- statement ----------------------------------------------------------------------------------

void SqliteStatement::Finalize::operator()(sqlite3_stmt* statement) const noexcept {
  sqlite3_finalize(statement);
}

void SqliteStatement::note(int result) {
  if (result != SQLITE_OK && failed_ == 0) failed_ = result;
}

SqliteStatement& SqliteStatement::bind(int64_t value) {
  note(sqlite3_bind_int64(statement_.get(), ++bound_, value));
  return *this;
}

SqliteStatement& SqliteStatement::bind(std::string_view text) {
  note(sqlite3_bind_text64(statement_.get(), ++bound_, text.empty() ? "" : text.data(), text.size(),
                           SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

SqliteStatement& SqliteStatement::bind(Bytes blob) {
  note(sqlite3_bind_blob64(statement_.get(), ++bound_, blob.data(), blob.size(), SQLITE_TRANSIENT));
  return *this;
}

SqliteStatement& SqliteStatement::bind_null() {
  note(sqlite3_bind_null(statement_.get(), ++bound_));
  return *this;
}

void SqliteStatement::rewind() {
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  bound_ = failed_ = 0;
}

Result<bool> SqliteStatement::step() {
  const int result = failed_ != 0 ? failed_ : sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  Error error;
  if (result != SQLITE_DONE)
    error = to_error(result, sqlite3_errmsg(sqlite3_db_handle(statement_.get())), where_);
  rewind();
  if (result == SQLITE_DONE) return false;
  return error;
}

Status SqliteStatement::run() {
  auto more = step();
  if (!more) return std::move(more.error());
  if (*more) rewind();
  return {};
}

int64_t SqliteStatement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

std::string_view SqliteStatement::text(int column) const {
  const auto* const data = sqlite3_column_text(statement_.get(), column);
  if (data == nullptr) return {};
  return {reinterpret_cast<const char*>(data),
          static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

Bytes SqliteStatement::blob(int column) const {
  const auto* const data =
      static_cast<const std::byte*>(sqlite3_column_blob(statement_.get(), column));
  return {data, data == nullptr
                    ? 0
                    : static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

bool SqliteStatement::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

// ---- database -----------------------------------------------------------------------------------

void SqliteDatabase::Close::operator()(sqlite3* database) const noexcept {
  sqlite3_close_v2(database);
}

// Exclusive: no shared-memory file, and a second server that was given the same file notices.
Result<SqliteDatabase> SqliteDatabase::open(const std::string& path) {
  if (Status made = make_private_file(path); !made) return std::move(made.error());
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int result = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  SqliteDatabase database(raw, path);
  if (result != SQLITE_OK) {
    return to_error(result, raw != nullptr ? sqlite3_errmsg(raw) : sqlite3_errstr(result), path);
  }
  const char* const settings =
      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; "
      "PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; COMMIT;";
  if (Status set = database.execute(settings); !set) return std::move(set.error());
  return database;
}

Status SqliteDatabase::execute(const char* sql) {
  const int result = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
  if (result == SQLITE_OK) return {};
  return to_error(result, sqlite3_errmsg(database_.get()), path_);
}

Result<SqliteStatement> SqliteDatabase::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int result = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (result == SQLITE_OK) return SqliteStatement(raw, path_);
  return to_error(result, sqlite3_errmsg(database_.get()), path_);
}

}  // namespace culvert::server
