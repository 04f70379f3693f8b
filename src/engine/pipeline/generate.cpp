#include "engine/pipeline/generate.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace darkroom::engine {
namespace {

// Tells of one picture's steps as a part of all pictures'.
class OneOfSeveral final : public ProgressSink {
 public:
  OneOfSeveral(ProgressSink& progress, int picture, int pictures)
      : progress_(progress), picture_(picture), pictures_(pictures) {}
  void stage(std::string_view name) override { progress_.stage(name); }
  void step(const StepProgress& progress) override {
    StepProgress of_all = progress;
    of_all.step += picture_ * progress.steps;
    of_all.steps *= pictures_;
    progress_.step(of_all);
  }

 private:
  ProgressSink& progress_;
  int picture_;
  int pictures_;
};

void add_stages(const std::vector<StageTime>& more, std::vector<StageTime>& stages) {
  for (const StageTime& stage : more) {
    const auto same = std::ranges::find(stages, stage.name, &StageTime::name);
    if (same == stages.end()) {
      stages.push_back(stage);
    } else {
      same->seconds += stage.seconds;
    }
  }
}

// Each picture is a job of its own, in one picture's memory.
GenerationResult generate_one_by_one(const JobModels& models, const GenerationSpec& spec, StageClock& clock,
                                     const CancelToken& cancel) {
  GenerationResult all;
  EncodedInputs encoded;
  std::vector<StageTime> stages = clock.finish();
  for (int i = 0; i < spec.batch_size; ++i) {
    GenerationSpec one = spec;
    one.batch_size = 1;
    (one.variation ? one.variation->seed : one.seed) += static_cast<std::uint64_t>(i);
    OneOfSeveral progress(clock.progress(), i, spec.batch_size);
    StageClock own(progress);
    GenerationResult result = Generation(models, one, own, cancel, encoded).run();
    add_stages(result.stages, stages);
    if (i == 0) {
      all = std::move(result);
      continue;
    }
    all.pictures.push_back(std::move(result.pictures.front()));
  }
  all.stages = std::move(stages);
  return all;
}

}  // namespace

GenerationResult generate(const JobModels& models, const GenerationSpec& spec, StageClock& clock,
                          const CancelToken& cancel) {
  if (spec.batch_size > 1 && !spec.batch_parallel) return generate_one_by_one(models, spec, clock, cancel);
  EncodedInputs encoded;
  return Generation(models, spec, clock, cancel, encoded).run();
}

std::vector<JointOutcome> generate_together(const JobModels& models, std::span<JointGeneration> jobs) {
  std::vector<JointOutcome> outcomes(jobs.size());
  std::vector<EncodedInputs> encoded(jobs.size());
  std::vector<std::unique_ptr<Generation>> generations;
  std::vector<JointRun> runs;
  std::vector<std::size_t> job_of_run;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    auto& [spec, clock, cancel] = jobs[i];
    generations.push_back(std::make_unique<Generation>(models, spec, clock, cancel, encoded[i]));
    if (const auto failure = failure_of([&] { generations[i]->begin(); })) {
      outcomes[i] = failure;
      continue;
    }
    runs.push_back({.denoising = &generations[i]->first_run(), .failed = nullptr});
    job_of_run.push_back(i);
  }
  denoise_together(*models.base, runs);
  for (std::size_t run = 0; run < runs.size(); ++run) {
    const std::size_t job = job_of_run[run];
    if (runs[run].failed) {
      outcomes[job] = runs[run].failed;
    } else {
      const auto failure = failure_of([&] { outcomes[job] = generations[job]->finish(); });
      if (failure) outcomes[job] = failure;
    }
    generations[job].reset();
    encoded[job] = {};
  }
  return outcomes;
}

}  // namespace darkroom::engine
