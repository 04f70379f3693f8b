// The workers of this machine: starts them, watches them, starts them again. Belongs to one thread; what comes from the
// workers' own threads is handed in by receive().
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/workers/worker_channel.h"
#include "service/workers/worker_stats.h"

namespace darkroom {

using SteadyTime = std::chrono::steady_clock::time_point;

// How an attempt ended without an answer.
enum class Loss : std::uint8_t {
  crashed,    // the worker died by itself, or answered nothing any more and was killed
  timed_out,  // it was killed, since it did not give up a job whose time was over
  cancelled,  // the same of a cancelled job
  disturbed,  // the worker was killed because of another job that it did at the same time
};

// What the pool tells about the jobs it was given, by their request ids; from within its own calls.
class PoolListener {
 public:
  PoolListener() = default;
  PoolListener(const PoolListener&) = delete;
  PoolListener& operator=(const PoolListener&) = delete;
  virtual ~PoolListener() = default;

  virtual void on_progress(const std::string& request_id, const Progress& progress) = 0;
  // The job is over, one way or the other; its worker is free.
  virtual void on_answer(const std::string& request_id, Response response) = 0;
  virtual void on_loss(const std::string& request_id, Loss loss, const std::string& cause) = 0;
  virtual void on_log(LogLevel level, const std::string& message) = 0;
};

struct PoolOptions {
  int workers = 1;
  StartWorker start;
  std::chrono::milliseconds heartbeat{10'000};    // between two questions
  std::chrono::milliseconds patience{120'000};    // to give up a job, and to get ready
  std::chrono::milliseconds first_restart{1000};  // doubled from one death to the next, up to
  std::chrono::milliseconds last_restart{60'000};
  std::chrono::milliseconds grace{5000};  // between SIGTERM and SIGKILL
};

// A job to be run.
struct PoolJob {
  std::string request_id;
  std::string model;
  GenerationRequest request;
};

// A worker as the scheduler sees it.
struct WorkerSight {
  bool idle = false;
  std::vector<std::string> warm;    // models, the last used first
  std::string loading;              // ""; none
  double seconds_since_load = 0.0;  // since it last began to load a model; large: never
};

class WorkerPool {
 public:
  struct Arrival {
    std::size_t worker = 0;
    WorkerArrival what;
  };
  using Post = std::function<void(Arrival)>;
  using Answer = std::function<void(Result<ResponseData>)>;

  // `post` is called by the workers' threads, and must bring each arrival to receive() in its order.
  WorkerPool(PoolOptions options, PoolListener& listener, Post post);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void receive(Arrival arrival, SteadyTime now);
  // What is due: starts, questions, kills.
  void tick(SteadyTime now);
  // When tick() has something to do again, unless something happens before.
  SteadyTime next_due() const;

  std::vector<WorkerSight> sights(SteadyTime now) const;
  // One job, or several of one batch class; the worker must be idle.
  void run(std::size_t worker, std::vector<PoolJob> jobs, SteadyTime now);
  void cancel(const std::string& request_id, SteadyTime now);
  // Asks a worker that is there, an idle one rather than a busy one; error worker_lost if there is none.
  void ask(RequestBody body, Answer answer);
  using Done = std::function<void(Result<void>)>;
  // Has a worker load a checkpoint ahead of its jobs, unless one has it: an idle worker rather than a busy one, which
  // does so after its job. Errors: worker_lost, and the worker's own.
  void load(const std::string& model, const Done& done);
  // Has every worker that has it let go of it, a busy one after its job.
  void unload(const std::string& model, const Done& done);

  bool any_ready() const;
  const std::string& last_trouble() const { return last_trouble_; }
  std::vector<WorkerStats> stats() const;

  // Lets idle workers end and kills busy ones, whose jobs are not told of any more; none is started again.
  void stop(SteadyTime now);
  bool stopped() const;

 private:
  struct Slot;

  void start(Slot& slot, SteadyTime now);
  void on_message(Slot& slot, WorkerMessage message, SteadyTime now);
  void on_event(Slot& slot, const Event& event);
  void on_response(Slot& slot, Response response, SteadyTime now);
  void on_end(Slot& slot, const ExitStatus& status, SteadyTime now);
  void watch(Slot& slot, SteadyTime now);
  void ask_status(Slot& slot, SteadyTime now);
  tl::unexpected<Error> none_ready() const;
  Slot* free_slot() const;  // an idle one rather than a busy one; null: none is there
  void send_question(Slot& slot, RequestBody body, Answer answer);
  static void note_status(Slot& slot, const Status& status);
  // culprit: the job because of which it has to go, and what that means for it; "": none alone.
  struct Blame {
    std::string request_id;
    Loss loss = Loss::crashed;
  };
  void end_worker(Slot& slot, const Blame& blame, std::string why, SteadyTime now);
  void log(const Slot& slot, LogLevel level, const std::string& message);

  PoolOptions options_;
  PoolListener& listener_;
  Post post_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::string last_trouble_;  // of a worker that could not be started or died
  std::uint64_t questions_ = 0;
  bool stopping_ = false;
};

}  // namespace darkroom
