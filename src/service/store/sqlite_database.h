// The one connection to an SQLite file, and statements on it. SQLiteCpp's exceptions end here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include <SQLiteCpp/SQLiteCpp.h>

#include "base/error.h"
#include "base/fd.h"

namespace darkroom {

// What SQLite's exception means to us.
Error error_of(const SQLite::Exception& exception);

class SqliteDatabase {
 public:
  // Migration i leads from user_version i to i + 1. Errors: conflict (another process has the file), corrupt_data (no
  // database, or one of a newer version), and those of the disk.
  static Result<std::unique_ptr<SqliteDatabase>> open(const std::filesystem::path& file,
                                                      std::span<const char* const> migrations);

  // work() in a transaction, which is kept if work answers with a value. One at a time.
  template <class Work>
  auto transact(Work&& work) -> std::invoke_result_t<Work&> {
    return in_transaction(SQLite::TransactionBehavior::IMMEDIATE, work);
  }
  // The same for work that only reads.
  template <class Work>
  auto read(Work&& work) -> std::invoke_result_t<Work&> {
    return in_transaction(SQLite::TransactionBehavior::DEFERRED, work);
  }

  // Compiled once. The text must be a literal.
  SQLite::Statement& prepared(const char* sql);
  // Rows that the last statement changed.
  int changes() const { return database_.getChanges(); }

 private:
  SqliteDatabase(Fd lock, const std::filesystem::path& file);
  void migrate(std::span<const char* const> migrations);

  template <class Work>
  auto in_transaction(SQLite::TransactionBehavior behavior, Work& work) -> std::invoke_result_t<Work&> {
    const std::lock_guard lock(mutex_);
    try {
      SQLite::Transaction transaction(database_, behavior);
      auto result = work();
      if (result) transaction.commit();
      return result;
    } catch (const SQLite::Exception& exception) {
      return tl::unexpected(error_of(exception));
    }
  }

  std::mutex mutex_;  // guards the connection
  Fd lock_;           // held as long as we live: the proof that nobody else has the file
  SQLite::Database database_;
  std::unordered_map<const char*, std::unique_ptr<SQLite::Statement>> statements_;
};

// One execution of a statement: binds its arguments in order, gives the rows, leaves nothing open.
class Query {
 public:
  template <class... Arguments>
  explicit Query(SqliteDatabase& database, const char* sql, const Arguments&... arguments)
      : database_(database), statement_(database.prepared(sql)) {
    int index = 0;
    (bind(++index, arguments), ...);
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query() {
    statement_.tryReset();  // its answer repeats what executeStep() has thrown
    statement_.clearBindings();
  }

  // To the next row, if there is one.
  bool next() { return statement_.executeStep(); }
  // All of it; the rows that it changed.
  int run() {
    while (statement_.executeStep()) {
    }
    return database_.changes();
  }

  std::int64_t integer(int column) { return statement_.getColumn(column).getInt64(); }
  double real(int column) { return statement_.getColumn(column).getDouble(); }
  std::string text(int column) { return statement_.getColumn(column).getString(); }
  bool is_null(int column) { return statement_.isColumnNull(column); }

 private:
  template <class T>
  void bind(int index, const T& value) {
    if constexpr (std::is_integral_v<T>) {
      statement_.bind(index, static_cast<std::int64_t>(value));
    } else if constexpr (std::is_convertible_v<T, std::string_view>) {
      const std::string_view text = value;
      statement_.bind(index, std::string(text));
    } else {
      statement_.bind(index, value);
    }
  }
  template <class T>
  void bind(int index, const std::optional<T>& value) {
    if (value) {
      bind(index, *value);
    } else {
      statement_.bind(index);
    }
  }

  SqliteDatabase& database_;
  SQLite::Statement& statement_;
};

}  // namespace darkroom
