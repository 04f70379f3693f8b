// JobStore on SQLite. Its functions are in sqlite_store.cpp, what changes a job, and sqlite_reads.cpp, the rest.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "service/store/job_store.h"
#include "service/store/sqlite_database.h"

namespace darkroom {

class SqliteStore final : public JobStore {
 public:
  explicit SqliteStore(std::unique_ptr<SqliteDatabase> database)
      : database_(std::move(database)), db_(database_->writer()), read_(database_->reader()) {}

  Result<Admitted> admit(const Admission& admission) override;
  Result<std::vector<ModelQueue>> queues() override;
  Result<std::vector<Claim>> claim(const ClaimRequest& request) override;
  Result<void> renew(const std::string& node, WallTime now) override;
  Result<Finish> finish(const Ending& ending) override;
  Result<GivenBack> give_back(const GivingBack& giving_back) override;
  Result<bool> adopt(const std::string& job, int attempt, const std::string& node, WallTime now) override;
  Result<std::vector<std::string>> reap_orphans(const std::string& node, WallTime now) override;
  Result<Cancelling> cancel(const std::string& job, WallTime now) override;
  Result<std::optional<JobView>> get(const std::string& job) override;
  Result<StoredRequest> request(const std::string& job) override;
  Result<JobPage> list(const JobFilter& filter, const std::string& cursor, int limit) override;
  Result<std::optional<int>> position(const std::string& job) override;
  Result<std::vector<std::string>> remove(const std::string& job) override;
  Result<Reaped> reap(const Retention& retention) override;
  Result<bool> has_blob(const std::string& blob) override;
  Result<QueueCounts> counts() override;
  Result<KeyUsage> usage(const std::string& key, WallTime now) override;
  Result<std::optional<double>> measure(const std::string& name) override;
  Result<void> set_measure(const std::string& name, double value) override;
  Result<std::vector<WebhookMessage>> due_webhooks(WallTime now, int limit) override;
  Result<std::optional<WallTime>> next_webhook() override;
  Result<void> drop_webhook(const std::string& id) override;
  Result<void> retry_webhook(const std::string& id, WallTime next) override;

 private:
  // Parts of transactions.
  Result<std::optional<Admitted>> find_repeated(const Admission& admission);
  double virtual_now();
  double advance_flow(const Caller& caller, Priority priority, double span);
  void insert_job(const Admission& admission, double start_tag, double span, const std::string& spec);
  std::vector<std::string> claim_rows(const ClaimRequest& request);
  Result<void> check_allowance(const Submission& submission);
  void set_lease(std::string_view node, WallTime now);
  void shift_backlog(std::string_view model, int jobs, double cost);
  void queue_again(std::string_view job);
  bool end(const Ending& ending, JobStatus from);
  void insert_picture(const std::string& job, int kind, std::size_t place, const Picture& picture);
  void add_usage(std::string_view caller, WallTime now, int jobs, std::size_t pictures, double seconds);
  Result<GivenBack> give_back_running(const GivingBack& giving_back);
  std::vector<std::string> erase(const std::string& job);
  std::vector<std::string> find_reapable(const Retention& retention);

  std::unique_ptr<SqliteDatabase> database_;
  SqliteConnection& db_;    // in transact()
  SqliteConnection& read_;  // in read()
};

}  // namespace darkroom
