// What DPM2 and its ancestral form share: the second look is from between the step's ends, in the logarithm of σ.
#pragma once

#include <vector>

#include "engine/sampling/two_pass_scheduler.h"

namespace darkroom::engine {

class Dpm2Scheduler : public TwoPassScheduler {
 protected:
  using TwoPassScheduler::TwoPassScheduler;

  void lay_out(int steps) final;
  // Of steps between these noise levels, the last of which is 0: one middle a step.
  virtual std::vector<float> middles_of(std::span<const float> levels) = 0;
  void first_pass(int i, std::span<const float> slope, std::span<float> sample) final;
  float sigma_of_second(int i) const final { return middles_[step_of(i)]; }

  static std::size_t step_of(int pass) { return static_cast<std::size_t>(pass / 2); }
  // Between a and b in the logarithm: torch.lerp with weight ½.
  static float log_middle(float a, float b);

 private:
  std::vector<float> middles_;  // σ
};

}  // namespace darkroom::engine
