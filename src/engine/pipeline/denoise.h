// The loop of every generation: passes of a UNet over a part of a schedule, guidance, and the scheduler's steps.
#pragma once

#include <span>
#include <vector>

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

// Takes `latents` [N, h, w, 4] from the level before the first pass of the plan to the one after its last.
void denoise(SdxlModel& model, const DenoisePlan& plan, std::vector<float>& latents, NoiseSource& noise,
             ProgressSink& progress, const CancelToken& cancel);

}  // namespace darkroom::engine
