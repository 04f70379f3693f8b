// An SQLite file, and statements on it. SQLiteCpp's exceptions end here.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <SQLiteCpp/SQLiteCpp.h>

#include "base/error.h"
#include "base/fd.h"

namespace darkroom {

// What SQLite's exception means to us.
Error error_of(const SQLite::Exception& exception);

// A connection and its compiled statements.
class SqliteConnection {
 public:
  explicit SqliteConnection(const std::filesystem::path& file);

  SQLite::Database& database() { return database_; }
  // Compiled once. The text must be a literal.
  SQLite::Statement& prepared(const char* sql);

 private:
  SQLite::Database database_;
  std::unordered_map<const char*, std::unique_ptr<SQLite::Statement>> statements_;
};

// When a transaction is safe from a power cut. From the end of this process it is in either case.
enum class Flush : std::uint8_t {
  now,    // once it answers
  later,  // with the next that is flushed: for what may be forgotten, as long as nothing after it is kept
};

// One connection that writes and one that reads, so that nobody who looks waits for the disk. Transactions of several
// threads that come while the disk is being waited for share one commit.
class SqliteDatabase {
 public:
  // Migration i leads from user_version i to i + 1. Errors: conflict (another process has the file), corrupt_data (no
  // database, or one of a newer version), and those of the disk.
  static Result<std::unique_ptr<SqliteDatabase>> open(const std::filesystem::path& file,
                                                      std::span<const char* const> migrations);

  // For use inside of transact() and read() only.
  SqliteConnection& writer() { return writer_; }
  SqliteConnection& reader() { return reader_; }

  // work() in a transaction, which is kept if work answers with a value. work may run more than once, and in another
  // thread.
  template <class Work>
  auto transact(Work&& work, Flush flush = Flush::now) -> std::invoke_result_t<Work&> {
    std::optional<std::invoke_result_t<Work&>> outcome;
    Turn turn{.flush = flush,
              .run =
                  [&] {
                    outcome.emplace(work());
                    return outcome->has_value();
                  },
              .fail = [&](const Error& error) { outcome.emplace(tl::unexpected(error)); }};
    take_turn(turn);
    return std::move(*outcome);
  }

  // work() upon one state of the database.
  template <class Work>
  auto read(Work&& work) -> std::invoke_result_t<Work&> {
    const std::lock_guard lock(reading_);
    try {
      const SQLite::Transaction transaction(reader_.database(), SQLite::TransactionBehavior::DEFERRED);
      return work();
    } catch (const SQLite::Exception& exception) {
      return tl::unexpected(error_of(exception));
    }
  }

 private:
  struct Turn {
    Flush flush = Flush::now;
    std::function<bool()> run;  // whether to keep what it did; SQLite's exceptions pass
    std::function<void(const Error&)> fail;
    bool done = false;
  };

  SqliteDatabase(Fd lock, const std::filesystem::path& file);
  void migrate(std::span<const char* const> migrations);
  // Runs this turn with others that wait, or waits until another thread has.
  void take_turn(Turn& turn);
  void run_all(const std::vector<Turn*>& turns);
  void run_together(const std::vector<Turn*>& turns);
  void run_alone(Turn& turn);
  void set_flush(Flush flush);

  Fd lock_;  // held as long as we live: the proof that nobody else has the file
  SqliteConnection writer_;
  Flush flush_ = Flush::now;  // writer_'s
  SqliteConnection reader_;
  std::mutex reading_;  // guards reader_

  std::mutex mutex_;  // guards what follows; writer_ is the one's who writes
  std::condition_variable changed_;
  std::vector<Turn*> waiting_;
  bool writing_ = false;
};

// One execution of a statement: binds its arguments in order, gives the rows, leaves nothing open.
class Query {
 public:
  template <class... Arguments>
  explicit Query(SqliteConnection& connection, const char* sql, const Arguments&... arguments)
      : connection_(connection), statement_(connection.prepared(sql)) {
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
    return connection_.database().getChanges();
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

  SqliteConnection& connection_;
  SQLite::Statement& statement_;
};

}  // namespace darkroom
