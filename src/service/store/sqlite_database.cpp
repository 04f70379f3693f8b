#include "service/store/sqlite_database.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/file.h>

namespace darkroom {
namespace {

constexpr int kBusyMs = 5000;  // another process may look into the file, with sqlite3's shell or to back it up

Result<Fd> take_lock(const std::filesystem::path& file) {
  const std::string path = file.string() + ".lock";
  Fd lock{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!lock) {
    return fail(ErrorCode::invalid_argument, "cannot open {}: {}", path, std::generic_category().message(errno));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return fail(ErrorCode::conflict, "{} is in use by another service", file.string());
    }
    return fail(ErrorCode::internal, "cannot lock {}: {}", path, std::generic_category().message(errno));
  }
  return lock;
}

}  // namespace

Error error_of(const SQLite::Exception& exception) {
  const std::string message = fmt::format("the database: {}", exception.what());
  switch (exception.getErrorCode()) {
    case SQLITE_FULL:
    case SQLITE_IOERR:  // a disk that is full while the log grows is told so, too
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {ErrorCode::overloaded, message};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return {ErrorCode::corrupt_data, message};
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return {ErrorCode::invalid_argument, message};
    default:
      return {ErrorCode::internal, message};
  }
}

Result<std::unique_ptr<SqliteDatabase>> SqliteDatabase::open(const std::filesystem::path& file,
                                                             std::span<const char* const> migrations) {
  Result<Fd> lock = take_lock(file);
  if (!lock) return tl::unexpected(lock.error());
  try {
    std::unique_ptr<SqliteDatabase> database(new SqliteDatabase(std::move(*lock), file));
    const int version = database->writer_.database().execAndGet("PRAGMA user_version").getInt();
    if (version > static_cast<int>(migrations.size())) {
      return fail(ErrorCode::corrupt_data, "{} was written by a newer version: it has schema {}, this one knows {}",
                  file.string(), version, migrations.size());
    }
    database->migrate(migrations.subspan(static_cast<std::size_t>(version)));
    return database;
  } catch (const SQLite::Exception& exception) {
    Error error = error_of(exception);
    return fail(error.code, "cannot open {}: {}", file.string(), error.message);
  }
}

SqliteConnection::SqliteConnection(const std::filesystem::path& file)
    : database_(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyMs) {
  database_.exec("PRAGMA journal_mode = WAL");
  database_.exec("PRAGMA synchronous = FULL");
  database_.exec("PRAGMA foreign_keys = ON");
}

SQLite::Statement& SqliteConnection::prepared(const char* sql) {
  std::unique_ptr<SQLite::Statement>& statement = statements_[sql];
  if (!statement) statement = std::make_unique<SQLite::Statement>(database_, sql);
  return *statement;
}

SqliteDatabase::SqliteDatabase(Fd lock, const std::filesystem::path& file)
    : lock_(std::move(lock)), writer_(file), reader_(file) {
  reader_.database().exec("PRAGMA query_only = ON");
}

void SqliteDatabase::migrate(std::span<const char* const> migrations) {
  SQLite::Database& database = writer_.database();
  for (const char* migration : migrations) {
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    database.exec(migration);
    const int version = database.execAndGet("PRAGMA user_version").getInt();
    database.exec(fmt::format("PRAGMA user_version = {}", version + 1));
    transaction.commit();
  }
}

void SqliteDatabase::take_turn(Turn& turn) {
  std::unique_lock lock(mutex_);
  waiting_.push_back(&turn);
  while (!turn.done) {
    if (writing_) {
      changed_.wait(lock);
      continue;
    }
    writing_ = true;
    const std::vector<Turn*> turns = std::exchange(waiting_, {});
    lock.unlock();
    run_all(turns);
    lock.lock();
    writing_ = false;
    for (Turn* ended : turns) ended->done = true;
    changed_.notify_all();
  }
}

void SqliteDatabase::run_all(const std::vector<Turn*>& turns) {
  if (turns.size() > 1) {
    try {
      return run_together(turns);
    } catch (const SQLite::Exception&) {
      // One is at fault, or the disk: nothing was kept, and each learns alone what is wrong with it.
    }
  }
  for (Turn* turn : turns) run_alone(*turn);
}

void SqliteDatabase::set_flush(Flush flush) {
  if (flush == flush_) return;
  writer_.database().exec(flush == Flush::now ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL");
  flush_ = flush;
}

void SqliteDatabase::run_together(const std::vector<Turn*>& turns) {
  const bool any_now =
      std::any_of(turns.begin(), turns.end(), [](const Turn* turn) { return turn->flush == Flush::now; });
  set_flush(any_now ? Flush::now : Flush::later);
  SQLite::Database& database = writer_.database();
  SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
  for (Turn* turn : turns) {
    database.exec("SAVEPOINT turn");
    if (!turn->run()) database.exec("ROLLBACK TO turn");
    database.exec("RELEASE turn");
  }
  transaction.commit();
}

void SqliteDatabase::run_alone(Turn& turn) {
  try {
    set_flush(turn.flush);
    SQLite::Transaction transaction(writer_.database(), SQLite::TransactionBehavior::IMMEDIATE);
    if (turn.run()) transaction.commit();
  } catch (const SQLite::Exception& exception) {
    turn.fail(error_of(exception));
  }
}

}  // namespace darkroom
