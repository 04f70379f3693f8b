#include "engine/sampling/two_pass_scheduler.h"

#include <algorithm>
#include <cmath>

namespace darkroom::engine {

void TwoPassScheduler::scale_model_input(int i, std::span<float> sample) const {
  scale_by_level(sample, sigma_of_pass(i));
}

void TwoPassScheduler::step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) {
  const float at = sigma_of_pass(i);
  std::vector<float> direction = slope(sample, limited(denoised(model_output, sample, at)), at);
  if (!halfway_) {
    halfway_.emplace(Halfway{.sample = {sample.begin(), sample.end()}, .slope = direction});
    first_pass(i, direction, sample);
  } else {
    const Halfway before = std::move(*halfway_);
    halfway_.reset();
    std::ranges::copy(before.sample, sample.begin());
    second_pass(i, direction, before, sample, noise);
  }
}

SigmaScheduler::Steps TwoPassScheduler::rounded_steps(int steps) {
  Steps spaced = spaced_steps(steps);
  // compat(diffusers): rounded for Karras, and only there.
  if (config_.sigma_spacing == SigmaSpacing::karras) {
    for (double& t : spaced.timesteps) t = std::nearbyint(t);
  }
  return spaced;
}

std::vector<float> TwoPassScheduler::doubled(std::span<const float> values) {
  std::vector<float> result{values.front()};
  for (const float value : values.subspan(1)) result.insert(result.end(), 2, value);
  result.push_back(values.back());
  return result;
}

float TwoPassScheduler::log_middle(float a, float b) {
  const float start = std::log(a);
  const float end = std::log(b);
  return std::exp(end - (end - start) * 0.5F);
}

void TwoPassScheduler::interleave_timesteps(std::span<const double> first, std::span<const float> second_sigmas) {
  timesteps_ = {static_cast<float>(first.front())};
  for (std::size_t k = 1; k < first.size(); ++k) {
    timesteps_.push_back(static_cast<float>(sigma_to_t(second_sigmas[k - 1], log_sigmas_)));
    timesteps_.push_back(static_cast<float>(first[k]));
  }
}

}  // namespace darkroom::engine
