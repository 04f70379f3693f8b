#include "engine/sampling/dpm2_scheduler.h"

#include <cmath>

namespace darkroom::engine {

void Dpm2Scheduler::lay_out(int steps) {
  Steps spaced = spaced_steps(steps);
  // compat(diffusers): rounded for Karras, and only there.
  if (config_.sigma_spacing == SigmaSpacing::karras) {
    for (double& t : spaced.timesteps) t = std::nearbyint(t);
  }
  std::vector<float> levels = to_floats(spaced.sigmas);
  levels.push_back(0.0F);
  middles_ = middles_of(levels);
  sigmas_ = doubled(levels);
  timesteps_ = {static_cast<float>(spaced.timesteps.front())};
  for (std::size_t k = 1; k < spaced.timesteps.size(); ++k) {
    timesteps_.push_back(static_cast<float>(sigma_to_t(middles_[k - 1], log_sigmas_)));
    timesteps_.push_back(static_cast<float>(spaced.timesteps[k]));
  }
  forget_steps();
}

void Dpm2Scheduler::first_pass(int i, std::span<const float> slope, std::span<float> sample) {
  add_scaled(sample, slope, middles_[step_of(i)] - sigma(i));
}

float Dpm2Scheduler::log_middle(float a, float b) {
  const float start = std::log(a);
  const float end = std::log(b);
  return std::exp(end - (end - start) * 0.5F);
}

}  // namespace darkroom::engine
