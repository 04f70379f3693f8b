#include "engine/sampling/sigma_scheduler.h"

#include <algorithm>
#include <cmath>

namespace darkroom::engine {

SigmaScheduler::SigmaScheduler(const SchedulerConfig& config, int order)
    : Scheduler(config.num_train_timesteps, order), config_(config), schedule_(noise_schedule(config)) {
  keep_terminal_alpha(config, schedule_);
  train_sigmas_ = sigmas_of(schedule_.alphas_cumprod);
  log_sigmas_ = logs_of(train_sigmas_);
}

void SigmaScheduler::scale_model_input(int i, std::span<float> sample) const { scale_by_level(sample, sigma(i)); }

void SigmaScheduler::add_noise(std::span<const float> original, std::span<const float> noise, int i,
                               std::span<float> out) const {
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = original[k] + noise[k] * sigma(i);
}

SigmaScheduler::Steps SigmaScheduler::spaced_steps(int steps) {
  Steps spaced;
  spaced.timesteps = divide_schedule(config_, steps);
  if (config_.interpolation_type == Interpolation::linear) {
    spaced.sigmas = interpolate(spaced.timesteps, train_sigmas_);
  } else {
    // compat(diffusers): one more than the steps; the last is reached by the step before.
    spaced.sigmas = linspace(log_sigmas_.back(), log_sigmas_.front(), steps + 1);
    for (double& sigma : spaced.sigmas) sigma = std::exp(static_cast<float>(sigma));
  }
  if (config_.sigma_spacing != SigmaSpacing::of_timesteps) {
    spaced.sigmas = spaced_sigmas(config_, {.min = spaced.sigmas.back(), .max = spaced.sigmas.front()}, steps);
    spaced.timesteps = sigmas_to_t(spaced.sigmas, log_sigmas_);
  }
  const auto largest = static_cast<float>(*std::ranges::max_element(spaced.sigmas));
  // compat(diffusers): only leading steps are thought to begin below the last timestep, at a noisy picture.
  init_noise_sigma_ =
      config_.timestep_spacing == TimestepSpacing::leading ? std::sqrt(largest * largest + 1.0F) : largest;
  return spaced;
}

void SigmaScheduler::lay_out_single_passes(int steps, float last_sigma) {
  const Steps spaced = spaced_steps(steps);
  sigmas_ = to_floats(spaced.sigmas);
  sigmas_.push_back(last_sigma);
  timesteps_ = to_floats(spaced.timesteps);
}

std::vector<float> SigmaScheduler::denoised(std::span<const float> model_output, std::span<const float> sample,
                                            float sigma) const {
  std::vector<float> x0(sample.size());
  switch (config_.prediction_type) {
    case PredictionType::epsilon:
      for (std::size_t k = 0; k < x0.size(); ++k) x0[k] = sample[k] - sigma * model_output[k];
      break;
    case PredictionType::v_prediction: {
      const float variance = sigma * sigma + 1.0F;
      const float c_out = -sigma / std::sqrt(variance);
      for (std::size_t k = 0; k < x0.size(); ++k) x0[k] = model_output[k] * c_out + sample[k] / variance;
      break;
    }
    case PredictionType::sample:
      std::ranges::copy(model_output, x0.begin());
      break;
  }
  return x0;
}

void scale_by_level(std::span<float> sample, float sigma) {
  const float deviation = std::sqrt(sigma * sigma + 1.0F);
  for (float& x : sample) x /= deviation;
}

std::vector<float> to_floats(std::span<const double> values) {
  std::vector<float> floats;
  for (const double value : values) floats.push_back(static_cast<float>(value));
  return floats;
}

std::vector<float> slope(std::span<const float> sample, std::span<const float> denoised, float sigma) {
  std::vector<float> result(sample.size());
  for (std::size_t k = 0; k < result.size(); ++k) result[k] = (sample[k] - denoised[k]) / sigma;
  return result;
}

void add_scaled(std::span<float> values, std::span<const float> direction, float factor) {
  for (std::size_t k = 0; k < values.size(); ++k) values[k] += direction[k] * factor;
}

void add_noise_scaled(std::span<float> values, NoiseSource& noise, float factor) {
  std::vector<float> fresh(values.size());
  noise.fill(fresh);
  add_scaled(values, fresh, factor);
}

AncestralStep ancestral_step(float from, float to) {
  const float up = std::sqrt(to * to * (from * from - to * to) / (from * from));
  return {.down = std::sqrt(to * to - up * up), .up = up};
}

}  // namespace darkroom::engine
