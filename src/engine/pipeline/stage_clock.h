// The stages of a job as its client sees them.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/pipeline/engine.h"

namespace darkroom::engine {

// Tells of stages as they begin, and times them.
class StageClock {
 public:
  explicit StageClock(ProgressSink& progress) : progress_(progress) {}
  void begin(std::string name);
  std::vector<StageTime> finish();
  ProgressSink& progress() const { return progress_; }

 private:
  using Clock = std::chrono::steady_clock;
  void end();

  ProgressSink& progress_;
  std::vector<StageTime> stages_;
  Clock::time_point started_;
};

}  // namespace darkroom::engine
