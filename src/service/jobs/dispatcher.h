// The thread that all of a job's life goes through: claims jobs for idle workers, passes on what these tell, keeps what
// they made, queues again what they lost. Only it publishes events, in the order in which it learns of things.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "service/blobs/blob_store.h"
#include "service/events/event_bus.h"
#include "service/jobs/live_jobs.h"
#include "service/jobs/reaper.h"
#include "service/jobs/tally.h"
#include "service/store/job_store.h"
#include "service/workers/worker_pool.h"

namespace darkroom {

struct DispatcherOptions {
  PoolOptions pool;
  int batch = 1;                  // jobs that a worker does at once
  std::string node;               // this process, among those that share the store
  std::filesystem::path spool;    // where workers write
  std::filesystem::path outputs;  // where save_path lies
  std::optional<std::chrono::seconds> keep_for;
  std::optional<std::uint64_t> keep_bytes;
  std::function<void(LogLevel, const std::string&)> log;
  std::function<void()> on_ended;  // a job; there may be a webhook to send
};

class Dispatcher final : private PoolListener {
 public:
  Dispatcher(DispatcherOptions options, JobStore& store, BlobStore& blobs, EventBus& bus, LiveJobs& live);
  ~Dispatcher() override;  // as drain() without patience

  // From any thread:
  void wake();  // there may be something to start
  // Tells what cancelling has made of the job.
  void cancelled(const JobView& job);
  void ask(RequestBody body, WorkerPool::Answer answer);
  void load(const std::string& model, WorkerPool::Done done);
  void unload(const std::string& model, WorkerPool::Done done);
  // No job is started any more. Returns when all workers are gone; jobs that run at the deadline are given back.
  void drain(SteadyTime deadline);
  bool draining() const { return draining_; }

  Tally tally() const;
  std::vector<WorkerStats> workers() const;
  // Nothing, or why no worker is ready.
  std::optional<std::string> trouble() const;

 private:
  struct Running {
    JobView job;
    GenerationSpec spec;
    SteadyTime started;
    bool cold = false;  // the worker had to load the model
  };
  // An attempt's end that is to be brought into the store.
  using Saving = std::variant<Ending, GivingBack>;

  void post(std::function<void()> task);
  void serve();
  void wait_for_tasks();
  SteadyTime next_due() const;

  void dispatch(SteadyTime now);
  struct Start {
    std::size_t worker = 0;
    std::string model;
    bool cold = false;
    int most = 1;  // jobs
  };
  bool start_jobs(const Start& start, SteadyTime now);
  PoolJob begin(Claim claim, bool cold, SteadyTime now);
  void save(Saving saving);
  bool try_save(const Saving& saving);
  bool save_ending(const Ending& ending);
  bool save_giving_back(const GivingBack& giving_back);
  Ending ending_of(const Running& running, const std::string& request_id, Response response);
  void keep(const Running& running, const std::string& request_id, Generated generated, Ending& ending);
  void save_as_asked(const Running& running, Ending& ending);
  void learn(const Running& running, const Generated& generated);
  std::optional<Running> take(const std::string& request_id);
  std::filesystem::path folder_of(const std::string& request_id) const { return options_.spool / request_id; }

  void tell_end(const std::string& job, JobStatus status, const std::optional<Refusal>& failure);
  void publish(const std::string& job, JobEventKind kind);
  void publish_preview(const JobView& job, const std::string& data_uri);
  void publish_positions();
  void keep_house(SteadyTime now);
  void keep_lease(SteadyTime now);
  void drain_some(SteadyTime now);
  void note_workers();
  void remove_blobs(const std::vector<std::string>& blobs);

  void on_progress(const std::string& request_id, const Progress& progress) override;
  void on_answer(const std::string& request_id, Response response) override;
  void on_loss(const std::string& request_id, Loss loss, const std::string& cause) override;
  void on_log(LogLevel level, const std::string& message) override { options_.log(level, message); }

  DispatcherOptions options_;
  JobStore& store_;
  BlobStore& blobs_;
  EventBus& bus_;
  LiveJobs& live_;

  const SteadyTime started_ = SteadyTime::clock::now();
  const WallTime wall_started_ = WallTime::clock::now();

  // The thread's own.
  WorkerPool pool_;
  std::map<std::string, Running> running_;  // by request id
  std::vector<Saving> unsaved_;             // the store could not take them; tried again
  SteadyTime next_saving_;
  SteadyTime next_house_;
  SteadyTime next_renewal_;
  Reaper reaper_;
  SteadyTime next_positions_;
  bool positions_changed_ = false;
  std::map<std::string, int> positions_;  // as published
  double load_seconds_;                   // that a model takes, as measured
  double seconds_per_work_;               // that a unit of intake.h's takes, as measured
  std::optional<SteadyTime> drain_deadline_;
  bool stop_told_ = false;
  bool done_ = false;

  std::atomic<bool> draining_ = false;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  Tally tally_;
  std::vector<WorkerStats> workers_;
  std::optional<std::string> trouble_ = "no worker has started yet";

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace darkroom
