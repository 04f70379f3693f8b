#include <algorithm>
#include <charconv>
#include <limits>

#include "service/store/sqlite_job_store.h"
#include "service/store/sqlite_rows.h"
#include "service/store/sqlite_schema.h"
#include "service/store/sqlite_statements.h"
#include "service/store/sqlite_store.h"

namespace darkroom {
namespace {

constexpr int kReapedAtOnce = 100;  // jobs

// The place after which a page begins: "created.id" of the last job before it.
struct Cursor {
  std::int64_t created = 0;
  std::string id;
};

Result<Cursor> read_cursor(const std::string& text) {
  if (text.empty()) return Cursor{std::numeric_limits<std::int64_t>::max(), ""};
  Cursor cursor;
  const std::size_t dot = text.find('.');
  const char* const end = text.data() + std::min(dot, text.size());
  const auto [stop, error] = std::from_chars(text.data(), end, cursor.created);
  if (dot == std::string::npos || error != std::errc() || stop != end) {
    return fail(ErrorCode::invalid_argument, "the cursor is none that this service gave");
  }
  cursor.id = text.substr(dot + 1);
  return cursor;
}

// The index that suits decides which statement; the other conditions are looked at row by row.
constexpr char kListAll[] = R"sql(
  SELECT * FROM job_rows WHERE (created, id) < (?1, ?2) AND (?3 IS NULL OR caller = ?3) AND (?4 IS NULL OR state = ?4)
    AND (?5 IS NULL OR fingerprint = ?5) ORDER BY created DESC, id DESC LIMIT ?6)sql";
constexpr char kListOfCaller[] = R"sql(
  SELECT * FROM job_rows WHERE (created, id) < (?1, ?2) AND caller = ?3 AND (?4 IS NULL OR state = ?4)
    AND (?5 IS NULL OR fingerprint = ?5) ORDER BY created DESC, id DESC LIMIT ?6)sql";
constexpr char kListOfFingerprint[] = R"sql(
  SELECT * FROM job_rows WHERE (created, id) < (?1, ?2) AND (?3 IS NULL OR caller = ?3) AND (?4 IS NULL OR state = ?4)
    AND fingerprint = ?5 ORDER BY created DESC, id DESC LIMIT ?6)sql";

const char* list_statement(const JobFilter& filter) {
  if (filter.fingerprint) return kListOfFingerprint;
  return filter.key ? kListOfCaller : kListAll;
}

}  // namespace

// --- Looking ---

Result<std::optional<JobView>> SqliteStore::get(const std::string& job) {
  return database_->read([&]() -> Result<std::optional<JobView>> { return find_job(read_, job); });
}

Result<StoredRequest> SqliteStore::request(const std::string& job) {
  return database_->read([&] { return find_request(read_, job); });
}

Result<JobPage> SqliteStore::list(const JobFilter& filter, const std::string& cursor, int limit) {
  DR_ASSERT(limit > 0);
  const Result<Cursor> from = read_cursor(cursor);
  if (!from) return tl::unexpected(from.error());
  return database_->read([&]() -> Result<JobPage> {
    JobPage page;
    {
      std::optional<std::string> state;
      if (filter.status) state = name_of(*filter.status);
      Query row(read_, list_statement(filter), from->created, from->id, filter.key, state, filter.fingerprint,
                limit + 1);
      while (row.next()) page.jobs.push_back(read_view(row));
    }
    if (page.jobs.size() > static_cast<std::size_t>(limit)) {
      page.jobs.pop_back();
      page.next = fmt::format("{}.{}", to_column(page.jobs.back().created), page.jobs.back().id);
    }
    for (JobView& job : page.jobs) read_pictures(read_, job);
    return page;
  });
}

Result<std::optional<int>> SqliteStore::position(const std::string& job) {
  return database_->read([&]() -> Result<std::optional<int>> {
    Query place(read_, "SELECT band, start_tag FROM jobs WHERE id = ? AND state = 'queued'", job);
    if (!place.next()) return std::nullopt;
    Query row(read_, kPositionSql, place.integer(0), place.real(1), job);
    row.next();
    return static_cast<int>(row.integer(0));
  });
}

Result<QueueCounts> SqliteStore::counts() {
  return database_->read([&]() -> Result<QueueCounts> {
    QueueCounts counts;
    Query queued(read_, "SELECT class, COUNT(*), MIN(created) FROM jobs WHERE state = 'queued' GROUP BY class");
    while (queued.next()) {
      counts.queued[static_cast<Priority>(queued.integer(0))] = static_cast<int>(queued.integer(1));
      const WallTime oldest = to_time(queued.integer(2));
      counts.oldest_queued = std::min(oldest, counts.oldest_queued.value_or(oldest));
    }
    Query totals(read_,
                 "SELECT (SELECT COUNT(*) FROM jobs WHERE state = 'running'), "
                 "(SELECT COALESCE(SUM(bytes), 0) FROM pictures), (SELECT COUNT(*) FROM outbox)");
    totals.next();
    counts.running = static_cast<int>(totals.integer(0));
    counts.picture_bytes = static_cast<std::uint64_t>(totals.integer(1));
    counts.webhooks = static_cast<std::uint64_t>(totals.integer(2));
    return counts;
  });
}

Result<KeyUsage> SqliteStore::usage(const std::string& key, WallTime now) {
  return database_->read([&]() -> Result<KeyUsage> {
    KeyUsage usage;
    Query unfinished(read_, "SELECT state, COUNT(*) FROM jobs WHERE caller = ? AND finished IS NULL GROUP BY state",
                     key);
    while (unfinished.next()) {
      (unfinished.text(0) == "queued" ? usage.queued : usage.running) = static_cast<int>(unfinished.integer(1));
    }
    Query today(read_, "SELECT jobs, pictures, device_seconds FROM usage WHERE caller = ? AND day = ?", key,
                day_of(now));
    if (today.next()) {
      usage.jobs_today = static_cast<std::uint64_t>(today.integer(0));
      usage.pictures_today = static_cast<std::uint64_t>(today.integer(1));
      usage.device_seconds_today = today.real(2);
    }
    return usage;
  });
}

// --- Going ---

// Deletes the job; its other rows go with it.
std::vector<std::string> SqliteStore::erase(const std::string& job) {
  std::vector<std::string> blobs;
  {
    Query row(db_, "SELECT blob FROM pictures WHERE job = ?", job);
    while (row.next()) blobs.push_back(row.text(0));
  }
  Query(db_, "DELETE FROM jobs WHERE id = ?", job).run();
  return blobs;
}

Result<std::vector<std::string>> SqliteStore::remove(const std::string& job) {
  return database_->transact([&]() -> Result<std::vector<std::string>> {
    {
      Query row(db_, "SELECT state FROM jobs WHERE id = ?", job);
      if (!row.next()) return fail(ErrorCode::not_found, "there is no job {}", job);
      const std::optional<JobStatus> status = value_of<JobStatus>(row.text(0));
      if (!status || !is_finished(*status)) {
        return fail(ErrorCode::conflict, "job {} is {}; only a finished one can be removed", job, row.text(0));
      }
    }
    return erase(job);
  });
}

std::vector<std::string> SqliteStore::find_reapable(const Retention& retention) {
  std::int64_t surplus = 0;  // bytes
  if (retention.max_bytes) {
    Query row(db_, "SELECT COALESCE(SUM(bytes), 0) FROM pictures");
    row.next();
    surplus = row.integer(0) - static_cast<std::int64_t>(*retention.max_bytes);
  }
  const std::int64_t before =
      retention.before ? to_column(*retention.before) : std::numeric_limits<std::int64_t>::min();
  std::vector<std::string> jobs;
  Query row(db_,
            "SELECT id, finished, (SELECT COALESCE(SUM(bytes), 0) FROM pictures WHERE job = jobs.id) FROM jobs "
            "WHERE finished IS NOT NULL ORDER BY finished, id LIMIT ?",
            kReapedAtOnce);
  while (row.next() && (row.integer(1) < before || surplus > 0)) {
    jobs.push_back(row.text(0));
    surplus -= row.integer(2);
  }
  return jobs;
}

Result<Reaped> SqliteStore::reap(const Retention& retention) {
  return database_->transact([&]() -> Result<Reaped> {
    Reaped reaped;
    for (const std::string& job : find_reapable(retention)) {
      std::vector<std::string> blobs = erase(job);
      reaped.blobs.insert(reaped.blobs.end(), blobs.begin(), blobs.end());
      ++reaped.jobs;
    }
    return reaped;
  });
}

Result<bool> SqliteStore::has_blob(const std::string& blob) {
  return database_->read([&]() -> Result<bool> {
    Query row(read_, "SELECT 1 FROM pictures WHERE blob = ?", blob);
    return row.next();
  });
}

// --- Numbers and messages ---

Result<std::optional<double>> SqliteStore::measure(const std::string& name) {
  return database_->read([&]() -> Result<std::optional<double>> {
    Query row(read_, "SELECT value FROM measures WHERE name = ?", name);
    return row.next() ? std::optional(row.real(0)) : std::nullopt;
  });
}

Result<void> SqliteStore::set_measure(const std::string& name, double value) {
  return database_->transact([&]() -> Result<void> {
    Query(db_,
          "INSERT INTO measures (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
          name, value)
        .run();
    return {};
  });
}

Result<std::vector<WebhookMessage>> SqliteStore::due_webhooks(WallTime now, int limit) {
  return database_->read([&]() -> Result<std::vector<WebhookMessage>> {
    std::vector<WebhookMessage> messages;
    Query row(read_,
              "SELECT id, url, secret_id, body, attempts FROM outbox WHERE next_try <= ? ORDER BY next_try LIMIT ?",
              to_column(now), limit);
    while (row.next()) {
      messages.push_back({.id = row.text(0),
                          .webhook = {.url = row.text(1), .secret_id = row.text(2)},
                          .body = row.text(3),
                          .attempts = static_cast<int>(row.integer(4))});
    }
    return messages;
  });
}

Result<std::optional<WallTime>> SqliteStore::next_webhook() {
  return database_->read([&]() -> Result<std::optional<WallTime>> {
    Query row(read_, "SELECT next_try FROM outbox ORDER BY next_try LIMIT 1");
    return row.next() ? std::optional(to_time(row.integer(0))) : std::nullopt;
  });
}

Result<void> SqliteStore::drop_webhook(const std::string& id) {
  return database_->transact([&]() -> Result<void> {
    Query(db_, "DELETE FROM outbox WHERE id = ?", id).run();
    return {};
  });
}

Result<void> SqliteStore::retry_webhook(const std::string& id, WallTime next) {
  return database_->transact([&]() -> Result<void> {
    Query(db_, "UPDATE outbox SET attempts = attempts + 1, next_try = ? WHERE id = ?", to_column(next), id).run();
    return {};
  });
}

Result<std::unique_ptr<JobStore>> open_sqlite_store(const std::filesystem::path& file) {
  Result<std::unique_ptr<SqliteDatabase>> database = SqliteDatabase::open(file, kMigrations);
  if (!database) return tl::unexpected(database.error());
  // The lock says that all of these are gone.
  const Result<void> alone = (*database)->transact([&]() -> Result<void> {
    Query((*database)->writer(), "DELETE FROM nodes").run();
    return {};
  });
  if (!alone) return tl::unexpected(alone.error());
  return std::make_unique<SqliteStore>(std::move(*database));
}

}  // namespace darkroom
