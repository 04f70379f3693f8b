#include "engine/sampling/alpha_scheduler.h"

#include <algorithm>
#include <cmath>

namespace darkroom::engine {

AlphaScheduler::AlphaScheduler(const SchedulerConfig& config)
    : Scheduler(config.num_train_timesteps, /*order=*/1),
      config_(config),
      alphas_cumprod_(noise_schedule(config).alphas_cumprod) {
  clean_alpha_ = config.set_alpha_to_one ? 1.0F : alphas_cumprod_.front();
}

void AlphaScheduler::add_noise(std::span<const float> original, std::span<const float> noise, int i,
                               std::span<float> out) const {
  const float a = alpha(timestep(i));
  combine(std::sqrt(a), original, std::sqrt(1.0F - a), noise, out);
}

float AlphaScheduler::alpha(int timestep) const {
  return timestep < 0 ? clean_alpha_ : alphas_cumprod_.at(static_cast<std::size_t>(timestep));
}

AlphaScheduler::Prediction AlphaScheduler::predict(std::span<const float> model_output, std::span<const float> sample,
                                                   float alpha) const {
  const float signal = std::sqrt(alpha);
  const float noise = std::sqrt(1.0F - alpha);
  const std::size_t size = sample.size();
  Prediction result{.x0 = std::vector<float>(size), .epsilon = std::vector<float>(size)};
  switch (config_.prediction_type) {
    case PredictionType::epsilon:
      std::ranges::copy(model_output, result.epsilon.begin());
      for (std::size_t k = 0; k < size; ++k) result.x0[k] = (sample[k] - noise * model_output[k]) / signal;
      break;
    case PredictionType::v_prediction:
      combine(signal, sample, -noise, model_output, result.x0);
      combine(signal, model_output, noise, sample, result.epsilon);
      break;
    case PredictionType::sample:
      std::ranges::copy(model_output, result.x0.begin());
      for (std::size_t k = 0; k < size; ++k) result.epsilon[k] = (sample[k] - signal * model_output[k]) / noise;
      break;
  }
  if (config_.clip_sample) {
    const auto range = static_cast<float>(config_.clip_sample_range);
    for (float& x : result.x0) x = std::clamp(x, -range, range);
  }
  return result;
}

void AlphaScheduler::divide_timesteps(int steps) {
  std::vector<double> timesteps = divide_schedule(config_, steps);
  for (double& t : timesteps) t = std::nearbyint(t);
  if (timesteps.front() >= config_.num_train_timesteps) {
    throw_failure(ErrorCode::invalid_argument, "steps: {} with steps_offset {} begin at timestep {}, training ended at {}",
                  steps, config_.steps_offset, timesteps.front(), config_.num_train_timesteps - 1);
  }
  timesteps_.assign(timesteps.begin(), timesteps.end());
}

void AlphaScheduler::pick_original_timesteps(int steps) {
  const int original = config_.original_inference_steps;
  if (original > config_.num_train_timesteps || steps > original) {
    throw_failure(ErrorCode::invalid_argument,
                  "steps: {} is more than original_inference_steps {}, or those more than num_train_timesteps {}", steps,
                  original, config_.num_train_timesteps);
  }
  const int stride = config_.num_train_timesteps / original;
  timesteps_.clear();
  const double hop = static_cast<double>(original) / steps;
  for (int i = 0; i < steps; ++i) {
    const int skipped = static_cast<int>(std::floor(i * hop));
    timesteps_.push_back(static_cast<float>((original - skipped) * stride - 1));
  }
}

void combine(float a, std::span<const float> x, float b, std::span<const float> y, std::span<float> out) {
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = a * x[k] + b * y[k];
}

}  // namespace darkroom::engine
