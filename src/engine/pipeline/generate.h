// From a spec to pictures with loaded models, in numbered steps.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/pipeline/controls.h"
#include "engine/pipeline/engine.h"
#include "engine/pipeline/sdxl_model.h"
#include "engine/pipeline/upscale.h"
#include "engine/weights/embedding.h"

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

// Everything that a job computes with, held while it runs.
struct JobModels {
  std::shared_ptr<SdxlModel> base;
  std::shared_ptr<SdxlModel> refiner;                         // null: none
  std::shared_ptr<Autoencoder> vae;                           // the job's own, else the base's, else the refiner's
  std::vector<std::shared_ptr<ControlNetModel>> controlnets;  // one a use
  std::shared_ptr<Upscaler> hires_upscaler;                   // null: the second pass's is no network
  std::shared_ptr<Upscaler> upscaler;                         // null: none, or Lanczos
  std::vector<LearnedWord> lora_words;                        // that the LoRAs which the base wears teach
};

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
