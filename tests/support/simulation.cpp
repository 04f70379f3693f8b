#include "tests/support/simulation.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include <fmt/format.h>

#include "service/jobs/schedule.h"
#include "service/store/sqlite_store.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr char kNode[] = "simulation";

WallTime at(double seconds) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::duration<double>(1.7e9 + seconds)));
}

// A store of its own, which goes with it.
class FreshStore {
 public:
  static Result<FreshStore> open(const fs::path& folder) {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
    fs::create_directories(folder, ignored);
    Result<std::unique_ptr<JobStore>> store = open_sqlite_store(folder / "jobs.db");
    if (!store) return tl::unexpected(store.error());
    return FreshStore(folder, std::move(*store));
  }
  FreshStore(FreshStore&&) = default;
  FreshStore& operator=(FreshStore&&) = delete;
  ~FreshStore() {
    if (!store_) return;
    store_.reset();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  JobStore& operator*() const { return *store_; }

  Result<void> admit(const std::string& key, double weight, const std::string& model, double cost, double now) {
    Admission admission{.submission = {},
                        .id = fmt::format("job{:08}", ++admitted_),
                        .fingerprint = "f",
                        .batch_class = "",
                        .cost = cost,
                        .max_queued = 1'000'000,
                        .now = at(now)};
    admission.submission.spec.model = model;
    admission.submission.spec.prompt = "a lake";
    admission.submission.caller = {.key = key, .weight = weight};
    Result<Admitted> admitted = store_->admit(admission);
    if (!admitted) return tl::unexpected(admitted.error());
    return {};
  }

  Result<JobView> claim(const std::string& model, double now) {
    Result<std::vector<Claim>> claims =
        store_->claim({.model = model, .node = kNode, .worker = 0, .most = 1, .now = at(now)});
    if (!claims) return tl::unexpected(claims.error());
    if (claims->empty()) return fail(ErrorCode::not_found, "nothing waits for {}", model);
    return std::move(claims->front().job);
  }

  Result<void> finish(const JobView& job, double now) {
    Result<Finish> finish =
        store_->finish({.job = job.id, .attempt = job.attempt, .status = JobStatus::succeeded, .now = at(now)});
    if (!finish) return tl::unexpected(finish.error());
    return {};
  }

 private:
  FreshStore(fs::path folder, std::unique_ptr<JobStore> store) : folder_(std::move(folder)), store_(std::move(store)) {}

  fs::path folder_;
  std::unique_ptr<JobStore> store_;
  int admitted_ = 0;
};

// --- Warm models ---

struct Worker {
  std::optional<JobView> job;
  std::string model;
  double loaded_at = 0.0;  // when the job's model is there
  double done_at = 0.0;
  double last_load = -1e9;
  std::vector<std::string> warm;  // the last used first

  WorkerSight sight(double now) const {
    return {.idle = !job,
            .warm = warm,
            .loading = job && now < loaded_at ? model : "",
            .seconds_since_load = now - last_load};
  }
};

class Simulation {
 public:
  Simulation(const WarmModelsCase& asked, FreshStore store)
      : case_(asked),
        store_(std::move(store)),
        workers_(static_cast<std::size_t>(asked.workers)),
        random_(asked.seed),
        between_(asked.load * asked.workers / asked.job_seconds) {
    std::vector<double> weights;
    for (int k = 1; k <= asked.models; ++k) weights.push_back(std::pow(k, -asked.zipf));
    which_ = std::discrete_distribution<int>(weights.begin(), weights.end());
  }

  Result<WarmModelsResult> run() {
    double next_arrival = between_(random_);
    int arrived = 0;
    while (result_.done < case_.jobs) {
      // 1. The next event: a job arrives, is done, or its model is there, which lets others load.
      double next = arrived < case_.jobs ? next_arrival : 1e300;
      for (const Worker& worker : workers_) {
        if (!worker.job) continue;
        if (worker.loaded_at > now_) next = std::min(next, worker.loaded_at);
        next = std::min(next, worker.done_at);
      }
      now_ = next;
      if (arrived < case_.jobs && now_ >= next_arrival) {
        const std::string model = fmt::format("model{}", which_(random_));
        if (Result<void> admitted = store_.admit("", 1.0, model, case_.job_seconds, now_); !admitted) {
          return tl::unexpected(admitted.error());
        }
        ++arrived;
        next_arrival += between_(random_);
      }
      for (Worker& worker : workers_) {
        if (!worker.job || now_ < worker.done_at) continue;
        if (Result<void> finished = store_.finish(*std::exchange(worker.job, std::nullopt), now_); !finished) {
          return tl::unexpected(finished.error());
        }
        ++result_.done;
      }
      // 2. What the dispatcher does after each.
      if (Result<void> dispatched = dispatch(); !dispatched) return tl::unexpected(dispatched.error());
    }
    result_.loads_per_job /= case_.jobs;
    result_.mean_wait /= case_.jobs;
    return result_;
  }

 private:
  Result<void> dispatch() {
    Scheduling scheduling{.queues = {}, .workers = sights(), .load_seconds = case_.load_seconds};
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      if (!scheduling.workers[i].idle) continue;
      Result<std::vector<ModelQueue>> queues = (*store_).queues();
      if (!queues) return tl::unexpected(queues.error());
      if (queues->empty()) return {};
      scheduling.queues = std::move(*queues);
      const std::optional<std::string> model = choose_model(scheduling, i);
      if (!model) continue;
      Result<JobView> job = store_.claim(*model, now_);
      if (!job) return tl::unexpected(job.error());
      start(workers_[i], std::move(*job));
      scheduling.workers = sights();
    }
    return {};
  }

  void start(Worker& worker, JobView job) {
    worker.model = job.model;
    const bool cold = std::erase(worker.warm, job.model) == 0;
    if (cold) {
      worker.last_load = now_;
      result_.loads_per_job += 1.0;
      if (worker.warm.size() >= static_cast<std::size_t>(case_.warm)) worker.warm.pop_back();
    }
    worker.warm.insert(worker.warm.begin(), job.model);
    worker.loaded_at = now_ + (cold ? case_.load_seconds : 0.0);
    worker.done_at = worker.loaded_at + case_.job_seconds;
    result_.mean_wait +=
        worker.loaded_at - (std::chrono::duration<double>(job.created.time_since_epoch()).count() - 1.7e9);
    worker.job = std::move(job);
  }

  std::vector<WorkerSight> sights() const {
    std::vector<WorkerSight> sights;
    for (const Worker& worker : workers_) sights.push_back(worker.sight(now_));
    return sights;
  }

  WarmModelsCase case_;
  FreshStore store_;
  std::vector<Worker> workers_;
  std::mt19937_64 random_;
  std::exponential_distribution<double> between_;
  std::discrete_distribution<int> which_;
  double now_ = 0.0;
  WarmModelsResult result_;
};

Result<void> admit_many(FreshStore& store, const std::string& key, double weight, int jobs) {
  for (int i = 0; i < jobs; ++i) {
    if (Result<void> admitted = store.admit(key, weight, "m", 1.0, 0.0); !admitted) return admitted;
  }
  return {};
}

Result<std::map<std::string, int>> claims_by_key(FreshStore& store, int claims) {
  std::map<std::string, int> keys;
  for (int i = 0; i < claims; ++i) {
    const Result<JobView> job = store.claim("m", 0.0);
    if (!job) return tl::unexpected(job.error());
    ++keys[job->key];
  }
  return keys;
}

}  // namespace

Result<WarmModelsResult> simulate_warm_models(const WarmModelsCase& asked, const fs::path& folder) {
  Result<FreshStore> store = FreshStore::open(folder);
  if (!store) return tl::unexpected(store.error());
  return Simulation(asked, std::move(*store)).run();
}

Result<std::map<std::string, int>> simulate_flood(int flood, int claims, const fs::path& folder) {
  Result<FreshStore> store = FreshStore::open(folder);
  if (!store) return tl::unexpected(store.error());
  return admit_many(*store, "flood", 1.0, flood)
      .and_then([&] { return admit_many(*store, "one", 1.0, 200); })
      .and_then([&] { return admit_many(*store, "three", 3.0, 200); })
      .and_then([&] { return claims_by_key(*store, claims); });
}

Result<std::map<std::string, int>> simulate_pause(Meanwhile meanwhile, const fs::path& folder) {
  Result<FreshStore> store = FreshStore::open(folder);
  if (!store) return tl::unexpected(store.error());
  // The one that stays has had a hundred jobs, one at a time.
  for (int i = 0; i < 100; ++i) {
    Result<JobView> job = admit_many(*store, "stayed", 1.0, 1).and_then([&] { return store->claim("m", 0.0); });
    if (!job) return tl::unexpected(job.error());
    if (meanwhile == Meanwhile::running && i == 99) break;
    if (Result<void> finished = store->finish(*job, 0.0); !finished) return tl::unexpected(finished.error());
  }
  const auto stay = [&] { return admit_many(*store, "stayed", 1.0, 200); };
  const auto come_back = [&] { return admit_many(*store, "back", 1.0, 200); };
  const Result<void> admitted =
      meanwhile == Meanwhile::queued ? stay().and_then(come_back) : come_back().and_then(stay);
  if (!admitted) return tl::unexpected(admitted.error());
  return claims_by_key(*store, 100);
}

}  // namespace darkroom
