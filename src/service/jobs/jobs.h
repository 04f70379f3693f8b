// The service's core: takes jobs, keeps them whatever dies, has workers do them, tells how far they are.
// Every function may be called from any thread; none but wait(), models(), schedulers(), and drain() waits for more
// than the disk.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "protocol/messages.h"
#include "service/events/event.h"
#include "service/jobs/tally.h"
#include "service/store/job.h"
#include "service/store/job_store.h"
#include "service/workers/worker_stats.h"

namespace darkroom {

struct JobsOptions {
  ServiceConfig service;
  std::filesystem::path outputs;                 // where a request's save_path lies
  std::filesystem::path worker;                  // the program
  std::vector<std::string> worker_arguments;     // settings for it; --outputs is ours
  std::uint64_t worker_line_bytes = 64'000'000;  // WorkerConfig::line_bytes
  int batch = 1;                                 // WorkerConfig::batch, at most its queue
  // Diagnostics, one line each, from any thread.
  std::function<void(LogLevel, const std::string&)> log;
  // The secret of Webhook::secret_id; nothing: it exists no more, and the message goes unsigned.
  std::function<std::optional<std::string>(const std::string& secret_id)> webhook_secret;
  // Between the death of a worker and its next start; doubled from death to death.
  std::chrono::milliseconds first_restart{1000};
  // Between asking a worker to go and killing it.
  std::chrono::milliseconds grace{5000};
};

struct Submitted {
  JobView job;
  bool repeated = false;  // the idempotency token's job, which was there already
};

// For metrics; totals count from the service's start.
struct JobsStats : Tally {
  std::map<Priority, int> queued;
  int running = 0;
  double oldest_queued_seconds = 0.0;
  std::uint64_t admitted = 0;
  std::uint64_t refused = 0;     // the queue was full
  std::uint64_t blob_bytes = 0;  // of pictures that are kept now
  std::uint64_t webhooks_waiting = 0;
  std::vector<WorkerStats> workers;
};

// Ends the subscription when it goes; its callback does not run any more once the destructor returned. A callback may
// not destroy its own.
class Subscription {
 public:
  explicit Subscription(std::shared_ptr<void> holder) : holder_(std::move(holder)) {}

 private:
  std::shared_ptr<void> holder_;
};

class Jobs {
 public:
  // Opens the data directory (error conflict: another service has it), queues again what was interrupted, starts the
  // workers. Does not wait for them.
  static Result<std::unique_ptr<Jobs>> start(JobsOptions options);
  ~Jobs();  // as drain() without patience
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;

  // Once it answers, the job is on the disk. Errors: overloaded (the queue is full), conflict (the token belongs to
  // another request, or the service is shutting down), invalid_argument (the webhook).
  Result<Submitted> submit(const Submission& submission);
  Result<JobView> get(const std::string& id);  // error not_found
  Result<StoredRequest> request(const std::string& id);
  // Error invalid_argument: no such cursor, or a limit that is not between 1 and 1000. "" begins.
  Result<JobPage> list(const JobFilter& filter, const std::string& cursor, int limit);
  // A queued job ends at once; a running one within a step, the view says cancel_asked until then; a finished one stays
  // as it is. Error not_found.
  Result<JobView> cancel(const std::string& id);
  // A finished job and its pictures. Errors not_found, conflict (not finished).
  Result<void> remove(const std::string& id);

  // The callback comes from threads of ours and must neither block nor call Jobs. Its first event, before this returns,
  // is a snapshot of the job as it is, unless `last_event_id` shows that the caller has seen just that; a finished
  // job's end is told in every case. Events may be missing afterwards, never the last one. Error not_found.
  Result<Subscription> subscribe(const std::string& id, const std::string& last_event_id,
                                 std::function<void(const JobEvent&)> on_event);
  // The job once it is finished, or as it is at the deadline. Error not_found.
  Result<JobView> wait(const std::string& id, std::chrono::steady_clock::time_point deadline);

  // The file of a finished job's picture; it is whole, never changes, and may go when its job does: open it at once.
  std::filesystem::path picture_file(const Picture& picture) const;
  // A text for a URL that lets whoever has it read this until then; survives restarts.
  std::string ticket(std::string_view job, int picture, WallTime expires) const;
  bool ticket_is_valid(std::string_view job, int picture, std::string_view ticket) const;

  // What the workers find, as models_list says it; while no worker answers, the last known. Error worker_lost.
  Result<std::vector<ModelEntry>> models();
  Result<std::vector<std::string>> schedulers();

  // Has a worker load a checkpoint ahead of its jobs, or all workers let go of it, each after what it does now; the
  // model as jobs name it. `done` comes from a thread of ours and must neither block nor call Jobs. Errors:
  // worker_lost, not_found, whatever loading comes to.
  void load_model(const std::string& model, std::function<void(Result<void>)> done);
  void unload_model(const std::string& model, std::function<void(Result<void>)> done);

  JobsStats stats();
  KeyUsage usage(const std::string& key);
  // Whether a worker is ready; else why not.
  Result<void> ready();

  // Takes no more jobs and starts none; waits for the running ones until the deadline, gives back the others (they are
  // queued when the service starts again), stops the workers.
  void drain(std::chrono::steady_clock::time_point deadline);

 private:
  class Service;
  explicit Jobs(std::unique_ptr<Service> service);
  std::unique_ptr<Service> service_;
};

}  // namespace darkroom
