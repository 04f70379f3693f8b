// Where jobs live. The contract that every implementation keeps; tests/unit/store holds it against each of them.
//   queued → running → succeeded | failed | cancelled
// The attempt number is the fencing token: whoever speaks for an attempt that is over speaks to nobody. Every function
// is one transaction and may be called from any thread; none stays open while a job runs. What it answered outlives a
// power cut, but for a claim and a lease, which then were never made. Time is the caller's.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "service/store/job.h"

namespace darkroom {

// A node's lease: renewed every 5 s, valid for 15 s.
inline constexpr std::chrono::seconds kLease(15);
// A job that took this many workers with it is not tried again.
inline constexpr int kMaxCrashes = 2;

struct Admission {
  Submission submission;
  std::string id;
  std::string fingerprint;
  std::string batch_class;     // equal: can share passes; "": with none
  double cost = 0.0;           // predicted, in any unit that is the same for all jobs
  std::size_t max_queued = 0;  // jobs that may wait, this one included
  WallTime now;
};

struct Admitted {
  JobView job;
  bool repeated = false;
};

// What waits for one model.
struct ModelQueue {
  std::string model;
  int band = 0;            // of its first job
  double start_tag = 0.0;  // of its first job
  int jobs = 0;
  double backlog = 0.0;  // the sum of their costs
};

struct ClaimRequest {
  std::string model;
  std::string node;
  int worker = 0;
  int most = 1;  // jobs, of one batch class
  WallTime now;
};

// A job that is to be started.
struct Claim {
  JobView job;
  GenerationSpec spec;
};

// How an attempt ended. Exactly one of a failure and pictures.
struct Ending {
  std::string job;
  int attempt = 0;
  JobStatus status = JobStatus::failed;
  std::optional<Refusal> failure;
  std::vector<std::string> warnings;
  std::vector<Picture> pictures;
  std::vector<Picture> control_maps;
  ProcessingMetrics metrics;
  WallTime now;
};

enum class Finish : std::uint8_t {
  done,
  repeated,  // this attempt ended so before
  stale,     // this attempt was over; nothing is changed
};

// Why an attempt ends without a result.
struct GivingBack {
  std::string job;
  int attempt = 0;
  std::string crash;  // what the worker died of; "": it did not, the attempt was only interrupted
  WallTime now;
};

enum class GivenBack : std::uint8_t {
  queued,
  ended,  // it was to be cancelled, or it crashed too often
  stale,
};

struct QueueCounts {
  std::map<Priority, int> queued;
  int running = 0;
  std::optional<WallTime> oldest_queued;
  std::uint64_t picture_bytes = 0;
  std::uint64_t webhooks = 0;
};

// What a key has used: for quotas.
struct KeyUsage {
  int queued = 0;
  int running = 0;
  std::uint64_t jobs_today = 0;  // admitted since midnight UTC
  std::uint64_t pictures_today = 0;
  double device_seconds_today = 0.0;
};

// A message that waits to be delivered.
struct WebhookMessage {
  std::string id;  // the same at every attempt
  Webhook webhook;
  std::string body;
  int attempts = 0;  // made already
};

struct Retention {
  std::optional<WallTime> before;          // jobs that finished earlier go
  std::optional<std::uint64_t> max_bytes;  // of pictures; beyond it those that finished first go
};

struct Reaped {
  int jobs = 0;
  std::vector<std::string> blobs;  // that nobody needs now
};

struct Cancelling {
  JobView job;           // afterwards
  bool changed = false;  // it was not finished before
};

class JobStore {
 public:
  JobStore() = default;
  JobStore(const JobStore&) = delete;
  JobStore& operator=(const JobStore&) = delete;
  virtual ~JobStore() = default;

  // Job, spec, idempotency row and fair tag at once. Errors: overloaded (max_queued, the allowance), conflict (the
  // token is another request's).
  virtual Result<Admitted> admit(const Admission& admission) = 0;
  // One entry a model that has jobs queued, by (band, start tag).
  virtual Result<std::vector<ModelQueue>> queues() = 0;
  // The first job of the model by (band, start tag) and the next of its batch class, running now with attempt + 1; the
  // node's lease is renewed. None if none waits. A job that took a worker with it is claimed alone. One whose spec
  // cannot be read any more ends as failed, and others are taken.
  virtual Result<std::vector<Claim>> claim(const ClaimRequest& request) = 0;
  // Nothing but this node may touch its running jobs until `now` + kLease.
  virtual Result<void> renew(const std::string& node, WallTime now) = 0;
  // Result, pictures, usage and webhook at once, if the job runs in this attempt; only the first has any effect.
  virtual Result<Finish> finish(const Ending& ending) = 0;
  // Queues the job again, in front; or ends it: as cancelled if that was asked, as worker_lost with all causes at the
  // crash number kMaxCrashes.
  virtual Result<GivenBack> give_back(const GivingBack& giving_back) = 0;
  // Makes this node the owner of a running attempt whose node has let its lease go. Whether it is now.
  virtual Result<bool> adopt(const std::string& job, int attempt, const std::string& node, WallTime now) = 0;
  // Queues again what runs under nodes without a lease, other than this one. The jobs.
  virtual Result<std::vector<std::string>> reap_orphans(const std::string& node, WallTime now) = 0;
  // A queued job ends; a running one gets the flag; a finished one stays. Error not_found.
  virtual Result<Cancelling> cancel(const std::string& job, WallTime now) = 0;

  virtual Result<std::optional<JobView>> get(const std::string& job) = 0;
  // Error not_found.
  virtual Result<StoredRequest> request(const std::string& job) = 0;
  // Error invalid_argument: no such cursor.
  virtual Result<JobPage> list(const JobFilter& filter, const std::string& cursor, int limit) = 0;
  // Jobs before this one; nothing if it is not queued.
  virtual Result<std::optional<int>> position(const std::string& job) = 0;

  // A finished job with all that belongs to it. The blobs that nobody needs now. Errors not_found, conflict.
  virtual Result<std::vector<std::string>> remove(const std::string& job) = 0;
  // The same for those that are to go, some at a time; no job when nothing is left to do.
  virtual Result<Reaped> reap(const Retention& retention) = 0;
  // Whether a job has this blob.
  virtual Result<bool> has_blob(const std::string& blob) = 0;

  virtual Result<QueueCounts> counts() = 0;
  virtual Result<KeyUsage> usage(const std::string& key, WallTime now) = 0;
  // A number that outlives the process, such as a measured time; nothing if it was never set.
  virtual Result<std::optional<double>> measure(const std::string& name) = 0;
  virtual Result<void> set_measure(const std::string& name, double value) = 0;

  // Messages to be sent now, the longest due first.
  virtual Result<std::vector<WebhookMessage>> due_webhooks(WallTime now, int limit) = 0;
  // When the next one is due.
  virtual Result<std::optional<WallTime>> next_webhook() = 0;
  // After an attempt: delivered or given up.
  virtual Result<void> drop_webhook(const std::string& id) = 0;
  // After an attempt that failed.
  virtual Result<void> retry_webhook(const std::string& id, WallTime next) = 0;
};

}  // namespace darkroom
