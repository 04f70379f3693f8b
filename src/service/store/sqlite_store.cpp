#include <algorithm>
#include <utility>

#include <fmt/ranges.h>

#include "service/store/fairness.h"
#include "service/store/sqlite_job_store.h"
#include "service/store/sqlite_rows.h"
#include "service/store/sqlite_statements.h"
#include "service/store/webhook_message.h"

namespace darkroom {
// --- Admission ---

Result<std::optional<Admitted>> SqliteStore::find_repeated(const Admission& admission) {
  const Submission& submission = admission.submission;
  if (submission.idempotency_token.empty()) return std::nullopt;
  std::string job;
  {
    Query row(db_, "SELECT job FROM idempotency WHERE caller = ? AND token = ?", submission.caller.key,
              submission.idempotency_token);
    if (!row.next()) return std::nullopt;
    job = row.text(0);
  }
  std::optional<JobView> view = find_job(db_, job);
  DR_ASSERT(view.has_value());  // the row goes with its job
  if (view->fingerprint != admission.fingerprint) {
    return fail(ErrorCode::conflict, "the idempotency key \"{}\" belongs to another request, job {}",
                submission.idempotency_token, view->id);
  }
  return Admitted{std::move(*view), true};
}

// Where the flows are now: a key that comes back from a pause starts here and not at what it has left over. A job that
// was started before and waits again counts as running, which it nearly is.
double SqliteStore::virtual_now() {
  Query row(db_, kVirtualNowSql);
  row.next();
  return row.real(0);
}

// The start tag of a job of this flow, whose finish tag moves on by the job's span.
double SqliteStore::advance_flow(const Caller& caller, Priority priority, double span) {
  double start = virtual_now();
  const int flow_class = static_cast<int>(priority);
  {
    Query row(db_, "SELECT finish FROM flows WHERE caller = ? AND class = ?", caller.key, flow_class);
    if (row.next()) start = std::max(start, row.real(0));
  }
  Query(db_,
        "INSERT INTO flows (caller, class, finish) VALUES (?, ?, ?) "
        "ON CONFLICT (caller, class) DO UPDATE SET finish = excluded.finish",
        caller.key, flow_class, start + span)
      .run();
  return start;
}

void SqliteStore::insert_job(const Admission& admission, double start_tag, double span, const std::string& spec) {
  const Submission& submission = admission.submission;
  Query(db_, R"sql(
    INSERT INTO jobs (id, caller, class, band, start_tag, span, cost, model, batch_class, state, attempt, crashes,
                      cancel, created, timeout, seed, fingerprint)
    VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?, 'queued', 0, 0, 0, ?, ?, ?, ?))sql",
        admission.id, submission.caller.key, static_cast<int>(submission.options.priority), start_tag, span,
        admission.cost, submission.spec.model, admission.batch_class, to_column(admission.now),
        submission.options.timeout, submission.spec.seed, admission.fingerprint)
      .run();
  Query(db_,
        "INSERT INTO specs (job, tags, warnings, webhook_url, webhook_secret, echo, spec) VALUES (?, ?, ?, ?, ?, ?, ?)",
        admission.id, write_texts(submission.options.tags), write_texts(submission.warnings), submission.webhook.url,
        submission.webhook.secret_id, submission.echo, spec)
      .run();
  if (!submission.idempotency_token.empty()) {
    Query(db_, "INSERT INTO idempotency (caller, token, job) VALUES (?, ?, ?)", submission.caller.key,
          submission.idempotency_token, admission.id)
        .run();
  }
}

Result<Admitted> SqliteStore::admit(const Admission& admission) {
  const Submission& submission = admission.submission;
  DR_ASSERT(submission.caller.weight > 0.0);
  const std::string spec = encode_generation(submission.spec, submission.options).dump();
  return database_->transact([&]() -> Result<Admitted> {
    Result<std::optional<Admitted>> repeated = find_repeated(admission);
    if (!repeated) return tl::unexpected(repeated.error());
    if (*repeated) return std::move(**repeated);
    if (Result<void> allowed = check_allowance(submission); !allowed) return tl::unexpected(allowed.error());
    Query waiting(db_, "SELECT COALESCE(SUM(jobs), 0) FROM backlogs");
    waiting.next();
    if (waiting.integer(0) >= static_cast<std::int64_t>(admission.max_queued)) {
      return fail(ErrorCode::overloaded, "{} jobs wait already", waiting.integer(0));
    }
    const double span = flow_span(admission.cost, submission.caller.weight, submission.options.priority);
    const double start_tag = advance_flow(submission.caller, submission.options.priority, span);
    insert_job(admission, start_tag, span, spec);
    shift_backlog(submission.spec.model, 1, admission.cost);
    add_usage(submission.caller.key, admission.now, 1, 0, 0.0);
    std::optional<JobView> view = find_job(db_, admission.id);
    DR_ASSERT(view.has_value());
    return Admitted{std::move(*view), false};
  });
}

Result<void> SqliteStore::check_allowance(const Submission& submission) {
  const Allowance& allowance = submission.allowance;
  if (allowance.pictures && submission.spec.batch_size > *allowance.pictures) {
    return fail(ErrorCode::overloaded, "the request asks for {} pictures, {} are left of the key's quota for today",
                submission.spec.batch_size, *allowance.pictures);
  }
  if (!allowance.unfinished) return {};
  Query unfinished(db_, "SELECT COUNT(*) FROM jobs WHERE caller = ? AND finished IS NULL", submission.caller.key);
  unfinished.next();
  if (unfinished.integer(0) < *allowance.unfinished) return {};
  return fail(ErrorCode::overloaded, "the key has {} unfinished jobs, at most {} are allowed", unfinished.integer(0),
              *allowance.unfinished);
}

void SqliteStore::shift_backlog(std::string_view model, int jobs, double cost) {
  Query(db_,
        "INSERT INTO backlogs (model, jobs, cost) VALUES (?, ?, ?) ON CONFLICT (model) DO UPDATE "
        "SET jobs = backlogs.jobs + excluded.jobs, cost = backlogs.cost + excluded.cost",
        model, jobs, cost)
      .run();
  // Sums of rounded numbers must not pile up.
  if (jobs < 0) Query(db_, "DELETE FROM backlogs WHERE model = ? AND jobs = 0", model).run();
}

void SqliteStore::add_usage(std::string_view caller, WallTime now, int jobs, std::size_t pictures, double seconds) {
  Query(db_,
        "INSERT INTO usage (caller, day, jobs, pictures, device_seconds) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (caller, day) DO UPDATE SET jobs = usage.jobs + excluded.jobs, "
        "pictures = usage.pictures + excluded.pictures, "
        "device_seconds = usage.device_seconds + excluded.device_seconds",
        caller, day_of(now), jobs, pictures, seconds)
      .run();
}

// --- Claiming ---

Result<std::vector<ModelQueue>> SqliteStore::queues() {
  return database_->read([&]() -> Result<std::vector<ModelQueue>> {
    Query row(read_, kQueuesSql);
    std::vector<ModelQueue> queues;
    while (row.next()) {
      queues.push_back({.model = row.text(0),
                        .band = static_cast<int>(row.integer(1)),
                        .start_tag = row.real(2),
                        .jobs = static_cast<int>(row.integer(3)),
                        .backlog = row.real(4)});
    }
    std::sort(queues.begin(), queues.end(), [](const ModelQueue& a, const ModelQueue& b) {
      return std::pair(a.band, a.start_tag) < std::pair(b.band, b.start_tag);
    });
    return queues;
  });
}

// Jobs that run now, in their order.
std::vector<std::string> SqliteStore::claim_rows(const ClaimRequest& request) {
  struct Row {
    std::int64_t band = 0;
    double start_tag = 0.0;
    std::string id;
    auto operator<=>(const Row&) const = default;  // NOLINT(modernize-use-nullptr): of the rewritten comparison
  };
  std::vector<Row> rows;
  double cost = 0.0;
  {
    Query row(db_, kClaimSql, request.node, request.worker, to_column(request.now), request.model, request.most);
    while (row.next()) {
      rows.push_back({.band = row.integer(2), .start_tag = row.real(3), .id = row.text(0)});
      cost += row.real(1);
    }
  }
  if (!rows.empty()) shift_backlog(request.model, -static_cast<int>(rows.size()), -cost);
  std::sort(rows.begin(), rows.end());
  std::vector<std::string> jobs;
  for (Row& row : rows) jobs.push_back(std::move(row.id));
  return jobs;
}

// A claim that a power cut undoes is one that was never made: its worker is gone as well.
Result<std::vector<Claim>> SqliteStore::claim(const ClaimRequest& request) {
  DR_ASSERT(request.most > 0);
  const auto work = [&]() -> Result<std::vector<Claim>> {
    std::vector<Claim> claims;
    while (claims.empty()) {
      const std::vector<std::string> jobs = claim_rows(request);
      if (jobs.empty()) return claims;
      for (const std::string& job : jobs) {
        std::optional<JobView> view = find_job(db_, job);
        DR_ASSERT(view.has_value());
        Result<StoredRequest> stored = find_request(db_, job);
        if (stored) {
          claims.push_back({std::move(*view), std::move(stored->spec)});
          continue;
        }
        end({.job = job, .attempt = view->attempt, .failure = Refusal{stored.error(), {}}, .now = request.now},
            JobStatus::running);
      }
    }
    set_lease(request.node, request.now);
    return claims;
  };
  return database_->transact(work, Flush::later);
}

void SqliteStore::set_lease(std::string_view node, WallTime now) {
  Query(db_,
        "INSERT INTO nodes (id, lease_until) VALUES (?, ?) "
        "ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until",
        node, to_column(now + kLease))
      .run();
}

Result<void> SqliteStore::renew(const std::string& node, WallTime now) {
  const auto work = [&]() -> Result<void> {
    set_lease(node, now);
    return {};
  };
  return database_->transact(work, Flush::later);
}

// --- Ending ---

// The job's one step to a final state, with all that belongs to it, if it is in that attempt and state.
bool SqliteStore::end(const Ending& ending, JobStatus from) {
  const int changed = Query(db_,
                            "UPDATE jobs SET state = ?, finished = ?, owner_node = NULL, owner_worker = NULL "
                            "WHERE id = ? AND attempt = ? AND state = ?",
                            name_of(ending.status), to_column(ending.now), ending.job, ending.attempt, name_of(from))
                          .run();
  if (changed == 0) return false;
  Query(db_, "INSERT INTO results (job, response) VALUES (?, ?)", ending.job, write_result(ending)).run();
  for (std::size_t i = 0; i < ending.pictures.size(); ++i) insert_picture(ending.job, 0, i, ending.pictures[i]);
  for (std::size_t i = 0; i < ending.control_maps.size(); ++i) insert_picture(ending.job, 1, i, ending.control_maps[i]);
  const std::optional<JobView> view = find_job(db_, ending.job);
  DR_ASSERT(view.has_value());
  add_usage(view->key, ending.now, 0, ending.pictures.size(), ending.metrics.inference_time);
  Query(db_,
        "INSERT INTO outbox (id, url, secret_id, body, attempts, next_try) "
        "SELECT job, webhook_url, webhook_secret, ?, 0, ? FROM specs WHERE job = ? AND webhook_url <> ''",
        webhook_body(*view), to_column(ending.now), ending.job)
      .run();
  return true;
}

void SqliteStore::insert_picture(const std::string& job, int kind, std::size_t place, const Picture& picture) {
  Query(db_,
        "INSERT INTO pictures (job, kind, place, blob, sha256, bytes, format, seed, width, height, saved) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        job, kind, place, picture.blob, picture.sha256, picture.bytes, name_of(picture.format), picture.seed,
        picture.width, picture.height, picture.saved)
      .run();
}

Result<Finish> SqliteStore::finish(const Ending& ending) {
  DR_ASSERT(is_finished(ending.status));
  DR_ASSERT(ending.failure.has_value() == (ending.status != JobStatus::succeeded));
  return database_->transact([&]() -> Result<Finish> {
    if (end(ending, JobStatus::running)) return Finish::done;
    Query row(db_, "SELECT 1 FROM jobs WHERE id = ? AND attempt = ? AND state = ?", ending.job, ending.attempt,
              name_of(ending.status));
    return row.next() ? Finish::repeated : Finish::stale;
  });
}

void SqliteStore::queue_again(std::string_view job) {
  Query(db_,
        "UPDATE jobs SET state = 'queued', band = 0, owner_node = NULL, owner_worker = NULL WHERE id = ? "
        "AND state = 'running'",
        job)
      .run();
  std::string model;
  double cost = 0.0;
  {
    Query row(db_, "SELECT model, cost FROM jobs WHERE id = ?", job);
    row.next();
    model = row.text(0);
    cost = row.real(1);
  }
  shift_backlog(model, 1, cost);
}

Result<GivenBack> SqliteStore::give_back(const GivingBack& giving_back) {
  return database_->transact([&] { return give_back_running(giving_back); });
}

Result<GivenBack> SqliteStore::give_back_running(const GivingBack& giving_back) {
  const std::optional<JobView> job = find_job(db_, giving_back.job);
  if (!job || job->status != JobStatus::running || job->attempt != giving_back.attempt) return GivenBack::stale;

  int crashes = job->crashes;
  if (!giving_back.crash.empty()) {
    ++crashes;
    Query(db_, "INSERT INTO crashes (job, attempt, cause) VALUES (?, ?, ?)", job->id, job->attempt, giving_back.crash)
        .run();
    Query(db_, "UPDATE jobs SET crashes = ? WHERE id = ?", crashes, job->id).run();
  }
  Ending ending{.job = job->id, .attempt = job->attempt, .now = giving_back.now};
  if (job->cancel_asked) {
    ending.status = JobStatus::cancelled;
    ending.failure = Refusal{{ErrorCode::cancelled, "the job was cancelled"}, {}};
  } else if (crashes >= kMaxCrashes) {
    std::vector<std::string> causes;
    Query row(db_, "SELECT attempt, cause FROM crashes WHERE job = ? ORDER BY attempt", job->id);
    while (row.next()) causes.push_back(fmt::format("attempt {}: {}", row.integer(0), row.text(1)));
    ending.failure = Refusal{
        {ErrorCode::worker_lost, fmt::format("the job took {} workers with it: {}", crashes, fmt::join(causes, "; "))},
        {}};
  } else {
    queue_again(job->id);
    return GivenBack::queued;
  }
  end(ending, JobStatus::running);
  return GivenBack::ended;
}

Result<bool> SqliteStore::adopt(const std::string& job, int attempt, const std::string& node, WallTime now) {
  return database_->transact([&]() -> Result<bool> {
    return Query(db_,
                 "UPDATE jobs SET owner_node = ? WHERE id = ? AND attempt = ? AND state = 'running' AND (owner_node = "
                 "? OR NOT EXISTS (SELECT 1 FROM nodes WHERE nodes.id = owner_node AND lease_until >= ?))",
                 node, job, attempt, node, to_column(now))
               .run() > 0;
  });
}

Result<std::vector<std::string>> SqliteStore::reap_orphans(const std::string& node, WallTime now) {
  return database_->transact([&]() -> Result<std::vector<std::string>> {
    std::vector<GivingBack> orphans;
    {
      Query row(db_,
                "SELECT id, attempt FROM jobs WHERE state = 'running' AND owner_node <> ? AND NOT EXISTS "
                "(SELECT 1 FROM nodes WHERE nodes.id = owner_node AND lease_until >= ?) ORDER BY start_tag",
                node, to_column(now));
      while (row.next())
        orphans.push_back({.job = row.text(0), .attempt = static_cast<int>(row.integer(1)), .now = now});
    }
    std::vector<std::string> jobs;
    for (const GivingBack& orphan : orphans) {
      [[maybe_unused]] const Result<GivenBack> given = give_back_running(orphan);
      jobs.push_back(orphan.job);
    }
    Query(db_, "DELETE FROM nodes WHERE id <> ? AND lease_until < ?", node, to_column(now)).run();
    return jobs;
  });
}

Result<Cancelling> SqliteStore::cancel(const std::string& job, WallTime now) {
  return database_->transact([&]() -> Result<Cancelling> {
    const std::optional<JobView> view = find_job(db_, job);
    if (!view) return fail(ErrorCode::not_found, "there is no job {}", job);
    if (view->status == JobStatus::queued) {
      end({.job = job,
           .attempt = view->attempt,
           .status = JobStatus::cancelled,
           .failure = Refusal{{ErrorCode::cancelled, "the job was cancelled before it started"}, {}},
           .now = now},
          JobStatus::queued);
      std::string model;
      double cost = 0.0;
      double span = 0.0;
      {
        Query row(db_, "SELECT model, cost, span FROM jobs WHERE id = ?", job);
        row.next();
        model = row.text(0);
        cost = row.real(1);
        span = row.real(2);
      }
      shift_backlog(model, -1, -cost);
      // What the flow was charged for and did not get.
      Query(db_, "UPDATE flows SET finish = finish - ? WHERE caller = ? AND class = ?", span, view->key,
            static_cast<int>(view->options.priority))
          .run();
    } else if (view->status == JobStatus::running) {
      Query(db_, "UPDATE jobs SET cancel = 1 WHERE id = ?", job).run();
    }
    std::optional<JobView> after = find_job(db_, job);
    DR_ASSERT(after.has_value());
    return Cancelling{std::move(*after), !is_finished(view->status)};
  });
}

}  // namespace darkroom
