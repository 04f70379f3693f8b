// The loop of every generation: passes of a UNet over a part of a schedule, guidance, and the scheduler's steps.
#pragma once

#include <chrono>
#include <exception>
#include <new>
#include <span>
#include <vector>

#include "base/error.h"
#include "engine/pipeline/conditioning.h"
#include "engine/pipeline/controls.h"
#include "engine/pipeline/engine.h"
#include "engine/pipeline/guidance.h"
#include "engine/pipeline/latents.h"
#include "engine/sampling/scheduler.h"

namespace darkroom::engine {

// What is known of a picture of which a part is repainted.
struct Repaint {
  std::vector<float> mask;      // [h, w]: 1 where it is repainted, else 0
  std::vector<float> original;  // [N, h, w, 4] its latents, which stay where the mask is 0
  std::vector<float> noise;     // [N, h, w, 4] that brings them to the level of each step
  std::vector<float> masked;  // [N, h, w, 4] latents of the picture with the mask's part grey, for UNets of 9 channels
};

struct DenoisePlan {
  Scheduler& scheduler;
  StepRange passes;
  PassRows rows;
  const Conditioning& conditioning;
  Guidance guidance;
  LatentShape shape;  // 4 channels, whatever the UNet takes
  std::span<const Control> controls;
  bool guess_mode = false;
  ResizeMode resize_mode = ResizeMode::refuse;
  const Repaint* repaint = nullptr;
  const FreeU* freeu = nullptr;
};

// One job's way over its plan, a pass at a time, so that the passes of several jobs can be one. Takes `latents`
// [N, h, w, 4] from the level before the first pass of the plan to the one after its last. All that is given by
// reference outlives it.
class Denoising {
 public:
  Denoising(SdxlModel& model, const DenoisePlan& plan, std::vector<float>& latents, NoiseSource& noise,
            ProgressSink& progress, const CancelToken& cancel);

  bool done() const { return done_ == passes_; }
  // What the UNet is given next. Throws if the job is cancelled.
  struct Pass {
    Tensor latents;  // [R, h, w, C]
    TimeRows time;
    std::span<const PromptKeys> prompt;
    UnetCall call;
  };
  Pass begin_pass();
  // The scheduler's step with what the UNet predicts, [R, h, w, 4].
  void end_pass(std::vector<float> prediction);

 private:
  SdxlModel& model_;
  DenoisePlan plan_;
  std::vector<float>& latents_;
  NoiseSource& noise_;
  ProgressSink& progress_;
  const CancelToken& cancel_;
  int passes_;
  int done_ = 0;
  // The same for every pass: the prompt's keys and values, the time embeddings of all passes, the control pictures.
  std::vector<PromptKeys> prompt_;
  std::vector<TimeRows> times_;
  ControlRun controls_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// All passes of one job.
void denoise(SdxlModel& model, Denoising& run);

// What `work` throws that ends one job of several and not all of them: a Failure, or want of memory. Null: nothing.
template <class Work>
std::exception_ptr failure_of(const Work& work) {
  try {
    work();
  } catch (const Failure&) {
    return std::current_exception();
  } catch (const std::bad_alloc&) {
    return std::current_exception();
  }
  return nullptr;
}

// A job among others. `failed` is what it threw, which ends its part and no other's.
struct JointRun {
  Denoising* denoising = nullptr;
  std::exception_ptr failed;
};
// All passes of several jobs that one UNet makes, as one pass wherever their sizes and words are equally long; each
// job's latents are the same as alone. Nothing of them may need a UnetCall.
void denoise_together(SdxlModel& model, std::span<JointRun> runs);

}  // namespace darkroom::engine
