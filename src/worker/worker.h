// The worker's two threads: one reads requests and answers at once what needs no engine (status, lists, cancel), the
// other does the jobs. They meet in a bounded queue; both write to the one output.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "config/config.h"
#include "engine/pipeline/engine.h"
#include "protocol/codec.h"
#include "protocol/line_channel.h"
#include "worker/artifacts.h"
#include "worker/job_runner.h"
#include "worker/model_directories.h"

namespace darkroom {

// The descriptors that a worker lives on; none is owned.
struct WorkerFds {
  int input = -1;    // requests
  int output = -1;   // responses and events
  int signals = -1;  // a signalfd: anything on it means finish the step and go
};

class Worker {
 public:
  // Throws Failure if the engine cannot start.
  Worker(const Config& config, ModelDirectories::Reach reach, const WorkerFds& fds);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Serves until the end of input, a shutdown request or a signal; every accepted request is answered before.
  void run();

 private:
  using Clock = std::chrono::steady_clock;
  struct QueuedJob {
    std::string request_id;
    Job job;
    Priority priority = Priority::normal;
    int timeout = 0;  // seconds; 0: none
  };
  struct RunningJob {
    std::string request_id;
    std::optional<Clock::time_point> deadline;
    engine::CancelToken cancel;
  };
  class JobProgress;

  // The reading thread.
  void receive(const Received& received);
  void handle(Request request);
  void enqueue(const std::string& request_id, Job job);
  ResponseData list(std::optional<ModelRole> role);
  ResponseData status();
  tl::expected<ResponseData, Error> cancel(const std::string& target);
  RunningJob* find_running(const std::string& request_id) const;  // under the mutex
  // Nothing more is accepted; if asked, what was accepted is cancelled.
  enum class Drain : std::uint8_t { finish, cancel };
  void drain(Drain how);
  bool finished();
  int milliseconds_to_deadline();

  // The job thread.
  void run_jobs();
  // The next one, and those that wait and can share its passes. None: the end.
  std::vector<QueuedJob> next_jobs();
  void run_alone(const QueuedJob& job);
  void run_together(std::span<const QueuedJob> jobs);
  void start_clock(RunningJob& job, int timeout);
  void end(Response response);

  // Either.
  void send(Response response);
  void send(const Event& event);
  void send_line(const std::string& line);
  void wake_reader() const;

  const Config config_;
  const WorkerFds fds_;
  LineReader reader_;
  LineWriter writer_;
  ModelDirectories models_;
  OutputDirectory outputs_;
  engine::Engine engine_;
  JobRunner runner_;
  Fd wake_;                                     // an eventfd: the job thread has something to tell the reader
  std::vector<std::string> shutdown_requests_;  // answered last

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<QueuedJob> queue_;
  std::vector<std::shared_ptr<RunningJob>> running_;  // more than one: they share passes
  bool draining_ = false;
  bool lost_ = false;                        // the other side does not listen any more
  std::vector<engine::LoadedModel> loaded_;  // after the last job
};

}  // namespace darkroom
