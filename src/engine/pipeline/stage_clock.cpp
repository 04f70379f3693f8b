#include "engine/pipeline/stage_clock.h"

#include <utility>

namespace darkroom::engine {

void StageClock::begin(std::string name) {
  end();
  progress_.stage(name);
  stages_.push_back({.name = std::move(name)});
  started_ = Clock::now();
}

std::vector<StageTime> StageClock::finish() {
  end();
  return std::move(stages_);
}

void StageClock::end() {
  if (!stages_.empty()) stages_.back().seconds = std::chrono::duration<double>(Clock::now() - started_).count();
}

}  // namespace darkroom::engine
