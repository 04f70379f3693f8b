// From specs to pictures with loaded models: a job's pictures together or one by one, or several jobs together.
#pragma once

#include <span>
#include <vector>

#include "engine/pipeline/engine.h"
#include "engine/pipeline/generation.h"
#include "engine/pipeline/stage_clock.h"

namespace darkroom::engine {

GenerationResult generate(const JobModels& models, const GenerationSpec& spec, StageClock& clock,
                          const CancelToken& cancel);

// A job among those that share the passes of its first run. All of them ask for what JobModels holds.
struct JointGeneration {
  const GenerationSpec& spec;
  StageClock& clock;
  const CancelToken& cancel;
};
// Each job's pictures are the same as alone, and what one throws ends no other.
std::vector<JointOutcome> generate_together(const JobModels& models, std::span<JointGeneration> jobs);

}  // namespace darkroom::engine
