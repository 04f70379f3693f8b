#include "engine/sampling/log_snr_scheduler.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace darkroom::engine {

namespace {

// How many timesteps there are before λ falls below lambda_min_clipped.
int usable_timesteps(const SchedulerConfig& config, std::span<const float> alphas_cumprod) {
  return static_cast<int>(std::ranges::count_if(alphas_cumprod, [&](float a) {
    const float lambda = std::log(std::sqrt(a)) - std::log(std::sqrt(1.0F - a));
    return lambda >= static_cast<float>(config.lambda_min_clipped);
  }));
}

bool has_lambda_limit(const SchedulerConfig& config) {
  return config.scheduler_class == SchedulerClass::dpm_solver_multistep ||
         config.scheduler_class == SchedulerClass::dpm_solver_singlestep;
}

}  // namespace

Level level_of(float sigma_over_alpha) {
  const float alpha = 1.0F / std::sqrt(sigma_over_alpha * sigma_over_alpha + 1.0F);
  const float sigma = sigma_over_alpha * alpha;
  return {.alpha = alpha, .sigma = sigma, .lambda = std::log(alpha) - std::log(sigma)};
}

LogSnrScheduler::LogSnrScheduler(const SchedulerConfig& config)
    : Scheduler(config.num_train_timesteps, /*order=*/1), config_(config) {
  NoiseSchedule schedule = noise_schedule(config);
  keep_terminal_alpha(config, schedule);
  train_sigmas_ = sigmas_of(schedule.alphas_cumprod);
  usable_timesteps_ =
      has_lambda_limit(config) ? usable_timesteps(config, schedule.alphas_cumprod) : config.num_train_timesteps;
}

void LogSnrScheduler::add_noise(std::span<const float> original, std::span<const float> noise, int i,
                                std::span<float> out) const {
  const Level at = level(i);
  for (std::size_t k = 0; k < out.size(); ++k) out[k] = at.alpha * original[k] + at.sigma * noise[k];
}

void LogSnrScheduler::space_steps(int steps) {
  if (usable_timesteps_ < steps) {
    throw_failure(ErrorCode::invalid_argument, "steps: {} is more than the {} timesteps above lambda_min_clipped {}",
                  steps, usable_timesteps_, config_.lambda_min_clipped);
  }
  std::vector<double> timesteps = divide_schedule_inside(config_, steps, usable_timesteps_);
  std::vector<double> sigmas;
  const std::vector<float> log_sigmas = logs_of(train_sigmas_);
  switch (config_.sigma_spacing) {
    case SigmaSpacing::of_timesteps:
      sigmas = interpolate(timesteps, train_sigmas_);
      break;
    case SigmaSpacing::lu:
      sigmas = linspace(0.0, 1.0, steps);
      for (double& sigma : sigmas) {
        const double high = log_sigmas.back();
        sigma = std::exp(high + sigma * (static_cast<double>(log_sigmas.front()) - high));
      }
      break;
    case SigmaSpacing::karras:
    case SigmaSpacing::exponential:
    case SigmaSpacing::beta:
      sigmas = spaced_sigmas(config_, {.min = train_sigmas_.front(), .max = train_sigmas_.back()}, steps);
      break;
  }
  if (config_.sigma_spacing != SigmaSpacing::of_timesteps) {
    timesteps = sigmas_to_t(sigmas, log_sigmas);
    // compat(diffusers): only these are rounded; the DPM solvers leave them for the cosine schedule.
    const bool spacing_rounds =
        config_.sigma_spacing == SigmaSpacing::karras || config_.sigma_spacing == SigmaSpacing::lu;
    const bool cosine_keeps = config_.scheduler_class == SchedulerClass::dpm_solver_multistep &&
                              config_.beta_schedule == BetaSchedule::squaredcos_cap_v2;
    for (double& t : timesteps) t = spacing_rounds && !cosine_keeps ? std::nearbyint(t) : std::trunc(t);
  }
  timesteps_.assign(timesteps.begin(), timesteps.end());
  sigmas_.assign(sigmas.begin(), sigmas.end());
}

int LogSnrScheduler::multistep_order(int i, bool ends_with_euler) const {
  constexpr int few_steps = 15;  // below, high orders are not trusted to the end
  const bool few = config_.lower_order_final && step_count() < few_steps;
  int order = static_cast<int>(predictions_.size());
  if (i == step_count() - 1 && (few || ends_with_euler)) order = 1;
  if (i == step_count() - 2 && few) order = std::min(order, 2);
  return order;
}

std::vector<float> LogSnrScheduler::predicted_picture(int i, std::span<const float> model_output,
                                                      std::span<const float> sample) const {
  const Level at = level(i);
  std::vector<float> x0(sample.size());
  switch (config_.prediction_type) {
    case PredictionType::epsilon:
      for (std::size_t k = 0; k < x0.size(); ++k) x0[k] = (sample[k] - at.sigma * model_output[k]) / at.alpha;
      break;
    case PredictionType::v_prediction:
      for (std::size_t k = 0; k < x0.size(); ++k) x0[k] = at.alpha * sample[k] - at.sigma * model_output[k];
      break;
    case PredictionType::sample:
      std::ranges::copy(model_output, x0.begin());
      break;
  }
  return x0;
}

std::vector<float> LogSnrScheduler::predicted_noise(int i, std::span<const float> model_output,
                                                    std::span<const float> sample) const {
  const Level at = level(i);
  std::vector<float> epsilon(sample.size());
  switch (config_.prediction_type) {
    case PredictionType::epsilon:
      std::ranges::copy(model_output, epsilon.begin());
      break;
    case PredictionType::v_prediction:
      for (std::size_t k = 0; k < epsilon.size(); ++k) epsilon[k] = at.alpha * model_output[k] + at.sigma * sample[k];
      break;
    case PredictionType::sample:
      for (std::size_t k = 0; k < epsilon.size(); ++k) epsilon[k] = (sample[k] - at.alpha * model_output[k]) / at.sigma;
      break;
  }
  return epsilon;
}

void LogSnrScheduler::remember(std::vector<float> prediction) {
  predictions_.push_front(std::move(prediction));
  if (std::ssize(predictions_) > config_.solver_order) predictions_.pop_back();
}

}  // namespace darkroom::engine
