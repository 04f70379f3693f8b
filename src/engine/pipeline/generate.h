// From a spec to pictures with a loaded model, in numbered steps.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/pipeline/engine.h"
#include "engine/pipeline/sdxl_model.h"

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

// Throws Failure{unsupported} naming every field of the spec that asks for what the engine does not have.
void refuse_what_is_missing(const GenerationSpec& spec);

// Memory of a job beside the weights, at its highest, in bytes.
std::uint64_t activation_bytes(const GenerationSpec& spec, const ComputeTypes& types);

GenerationResult generate(SdxlModel& model, const GenerationSpec& spec, StageClock& clock, const CancelToken& cancel);

}  // namespace darkroom::engine
