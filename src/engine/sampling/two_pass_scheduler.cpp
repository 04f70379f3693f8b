#include "engine/sampling/two_pass_scheduler.h"

#include <algorithm>
#include <utility>

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

std::vector<float> TwoPassScheduler::doubled(std::span<const float> values) {
  std::vector<float> result{values.front()};
  for (const float value : values.subspan(1)) result.insert(result.end(), 2, value);
  result.push_back(values.back());
  return result;
}

}  // namespace darkroom::engine
