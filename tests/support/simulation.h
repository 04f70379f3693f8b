// The scheduler at work, without the work: the real store and the real rule (service/jobs/schedule), workers that take
// no time, and a clock that jumps from one event to the next.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "base/error.h"

namespace darkroom {

struct WarmModelsCase {
  int workers = 16;
  int models = 24;
  double zipf = 1.1;           // the k-th model is asked for as often as 1/k^zipf
  int warm = 2;                // models that a worker keeps
  double job_seconds = 2.0;    // of each job
  double load_seconds = 10.0;  // of each model
  double load = 0.9;           // work that arrives, as a part of what the workers can do
  int jobs = 20'000;           // that arrive, at random moments
  std::uint64_t seed = 1;
};

struct WarmModelsResult {
  double loads_per_job = 0.0;
  double mean_wait = 0.0;  // seconds from arriving to being computed; loading is waiting
  int done = 0;            // jobs
};

// `folder`: for the database. Errors: the store's.
Result<WarmModelsResult> simulate_warm_models(const WarmModelsCase& asked, const std::filesystem::path& folder);

// Who gets the claims after a flood: `flood` jobs of a key of weight 1, then 200 each of keys of weight 1 and 3.
Result<std::map<std::string, int>> simulate_flood(int flood, int claims, const std::filesystem::path& folder);
// Who gets the next 100 claims when a key comes back from a pause while another has worked on alone: with jobs of the
// other queued, or with nothing queued and one running, or with neither.
enum class Meanwhile : std::uint8_t { queued, running, idle };
Result<std::map<std::string, int>> simulate_pause(Meanwhile meanwhile, const std::filesystem::path& folder);

}  // namespace darkroom
