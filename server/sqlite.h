// A database of SQLite and its statements as objects. For one thread at a time.
// https://www.sqlite.org/c3ref/intro.html
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace culvert::server {

// One prepared statement. Values are bound in order, "?1" first; columns count from 0.
class SqliteStatement {
 public:
  SqliteStatement& bind(int64_t value);
  SqliteStatement& bind(std::string_view text);
  SqliteStatement& bind(Bytes blob);
  SqliteStatement& bind_null();

  // True: there is a row. After the last one the statement is ready to be bound again.
  Result<bool> step();
  // For a statement without rows.
  Status run();

  [[nodiscard]] int64_t integer(int column) const;
  // Both are valid until the next step().
  [[nodiscard]] std::string_view text(int column) const;
  [[nodiscard]] Bytes blob(int column) const;
  [[nodiscard]] bool is_null(int column) const;

 private:
  friend class SqliteDatabase;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const noexcept;
  };
  SqliteStatement(sqlite3_stmt* statement, std::string where)
      : statement_(statement), where_(std::move(where)) {}
  void note(int result);
  void rewind();

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
  std::string where_;
  int bound_ = 0;
  int failed_ = 0;  // the first result of a bind that was not good
};

class SqliteDatabase {
 public:
  // Opens the file for this process alone, and makes it (mode 0600) if it is missing. Errors:
  // kAlreadyUp: somebody else has it; kPermission; kUsage: it is damaged, or none of SQLite;
  // kFailure.
  static Result<SqliteDatabase> open(const std::string& path);

  // One or several statements without parameters.
  Status execute(const char* sql);
  Result<SqliteStatement> prepare(std::string_view sql);

 private:
  struct Close {
    void operator()(sqlite3* database) const noexcept;
  };
  SqliteDatabase(sqlite3* database, std::string path)
      : database_(database), path_(std::move(path)) {}

  std::unique_ptr<sqlite3, Close> database_;
  std::string path_;
};

}  // namespace culvert::server
