#include "service/store/sqlite_database.h"

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
    const int version = database->database_.execAndGet("PRAGMA user_version").getInt();
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

SqliteDatabase::SqliteDatabase(Fd lock, const std::filesystem::path& file)
    : lock_(std::move(lock)), database_(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyMs) {
  database_.exec("PRAGMA journal_mode = WAL");
  database_.exec("PRAGMA synchronous = FULL");
  database_.exec("PRAGMA foreign_keys = ON");
}

void SqliteDatabase::migrate(std::span<const char* const> migrations) {
  for (const char* migration : migrations) {
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
    database_.exec(migration);
    const int version = database_.execAndGet("PRAGMA user_version").getInt();
    database_.exec(fmt::format("PRAGMA user_version = {}", version + 1));
    transaction.commit();
  }
}

SQLite::Statement& SqliteDatabase::prepared(const char* sql) {
  std::unique_ptr<SQLite::Statement>& statement = statements_[sql];
  if (!statement) statement = std::make_unique<SQLite::Statement>(database_, sql);
  return *statement;
}

}  // namespace darkroom
