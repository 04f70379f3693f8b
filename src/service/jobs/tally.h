// What the service has done since its start, for metrics.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/error.h"
#include "service/store/job.h"

namespace darkroom {

struct Total {
  double seconds = 0.0;
  std::uint64_t count = 0;

  void add(double more) {
    seconds += more;
    ++count;
  }
};

struct Tally {
  std::map<JobStatus, std::uint64_t> ended;
  std::map<ErrorCode, std::uint64_t> failures;
  std::uint64_t crashes = 0;  // of workers at a job
  std::uint64_t pictures = 0;
  std::uint64_t steps = 0;
  std::uint64_t model_loads = 0;
  Total queue_wait;
  Total run;
  std::map<std::string, Total> stages;
};

}  // namespace darkroom
