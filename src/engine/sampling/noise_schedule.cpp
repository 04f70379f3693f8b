#include "engine/sampling/noise_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace darkroom::engine {

namespace {

// torch.linspace in float32: both halves count from their own end.
std::vector<float> linspace_float(float start, float stop, int count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  if (count == 1) {
    values[0] = start;
    return values;
  }
  const float step = (stop - start) / static_cast<float>(count - 1);
  for (int i = 0; i < count; ++i) {
    values[static_cast<std::size_t>(i)] =
        i < count / 2 ? start + step * static_cast<float>(i) : stop - step * static_cast<float>(count - i - 1);
  }
  return values;
}

// Nichol and Dhariwal 2021, eq. 17.
double cosine_alpha_bar(double t) {
  const double c = std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2);
  return c * c;
}

std::vector<float> betas_of(const SchedulerConfig& config) {
  const int count = config.num_train_timesteps;
  if (!config.trained_betas.empty()) return {config.trained_betas.begin(), config.trained_betas.end()};
  switch (config.beta_schedule) {
    case BetaSchedule::linear:
      return linspace_float(static_cast<float>(config.beta_start), static_cast<float>(config.beta_end), count);
    case BetaSchedule::scaled_linear: {
      std::vector<float> betas = linspace_float(static_cast<float>(std::sqrt(config.beta_start)),
                                                static_cast<float>(std::sqrt(config.beta_end)), count);
      for (float& beta : betas) beta *= beta;
      return betas;
    }
    case BetaSchedule::squaredcos_cap_v2:
      break;
  }
  std::vector<float> betas;
  for (int i = 0; i < count; ++i) {
    const double left = cosine_alpha_bar(static_cast<double>(i) / count);
    const double right = cosine_alpha_bar(static_cast<double>(i + 1) / count);
    betas.push_back(static_cast<float>(std::min(1.0 - right / left, 0.999)));
  }
  return betas;
}

std::vector<float> cumulative_alphas(std::span<const float> betas) {
  std::vector<float> products;
  double product = 1.0;  // torch.cumprod accumulates float32 in double
  for (const float beta : betas) products.push_back(static_cast<float>(product *= 1.0F - beta));
  return products;
}

// Lin et al. 2024, algorithm 1: shifted and scaled so that the last step is pure noise and the first stays.
std::vector<float> rescale_to_zero_terminal_snr(std::span<const float> betas) {
  std::vector<float> roots = cumulative_alphas(betas);
  for (float& root : roots) root = std::sqrt(root);
  const float first = roots.front();
  const float last = roots.back();
  for (float& root : roots) root = (root - last) * (first / (first - last));
  std::vector<float> rescaled;
  float before = 1.0F;
  for (const float root : roots) {
    const float product = root * root;
    rescaled.push_back(1.0F - product / before);
    before = product;
  }
  return rescaled;
}

// Regularised incomplete beta function I_x(a, b) by its continued fraction (Lentz), for x left of the mean.
double incomplete_beta_left(double x, double a, double b) {
  constexpr double tiny = 1e-300;
  const double scale =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x)) / a;
  double c = 1.0;
  double d = 1.0 - (a + b) * x / (a + 1.0);
  d = 1.0 / (std::abs(d) < tiny ? tiny : d);
  double fraction = d;
  for (int m = 1; m < 300; ++m) {
    const double k = m;
    const double even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k));
    const double odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1));
    double change = 1.0;
    for (const double term : {even, odd}) {
      d = 1.0 + term * d;
      c = 1.0 + term / c;
      d = 1.0 / (std::abs(d) < tiny ? tiny : d);
      c = std::abs(c) < tiny ? tiny : c;
      change = c * d;
      fraction *= change;
    }
    if (std::abs(change - 1.0) < 1e-15) break;
  }
  return scale * fraction;
}

// The x whose I_x(shape, shape) is p: the quantile of a symmetric beta distribution, by bisection.
double symmetric_beta_quantile(double p, double shape) {
  if (p > 0.5) return 1.0 - symmetric_beta_quantile(1.0 - p, shape);
  if (p <= 0.0) return 0.0;
  double low = 0.0;
  double high = 0.5;
  for (int i = 0; i < 200 && high - low > 1e-17; ++i) {
    const double middle = (low + high) / 2;
    (incomplete_beta_left(middle, shape, shape) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

NoiseSchedule noise_schedule(const SchedulerConfig& config) {
  NoiseSchedule schedule;
  schedule.betas = betas_of(config);
  if (config.rescale_betas_zero_snr) schedule.betas = rescale_to_zero_terminal_snr(schedule.betas);
  schedule.alphas_cumprod = cumulative_alphas(schedule.betas);
  return schedule;
}

void keep_terminal_alpha(const SchedulerConfig& config, NoiseSchedule& schedule) {
  // compat(diffusers): the smallest float16.
  if (config.rescale_betas_zero_snr) schedule.alphas_cumprod.back() = 0x1p-24F;
}

std::vector<float> sigmas_of(std::span<const float> alphas_cumprod) {
  std::vector<float> sigmas;
  for (const float a : alphas_cumprod) sigmas.push_back(std::sqrt((1.0F - a) / a));
  return sigmas;
}

std::vector<float> logs_of(std::span<const float> values) {
  std::vector<float> logs;
  for (const float value : values) logs.push_back(std::log(value));
  return logs;
}

std::vector<double> linspace(double start, double stop, int count) {
  std::vector<double> values;
  const double step = count > 1 ? (stop - start) / (count - 1) : 0.0;
  for (int i = 0; i < count; ++i) values.push_back(start + step * i);
  if (count > 1) values.back() = stop;
  return values;
}

namespace {

// numpy.arange with a negative step to zero, rounded, less one. For some counts (61, 103, 121, …) rounding leaves one
// more above zero, at the timestep −1: numpy and diffusers have it too, and look it up at the schedule's other end. It
// is left out here.
std::vector<double> trailing_timesteps(double start, double step) {
  const int count = static_cast<int>(std::ceil(start / step));
  const double delta = (start - step) - start;  // numpy takes the difference of the first two
  std::vector<double> timesteps;
  for (int i = 0; i < count; ++i) timesteps.push_back(std::nearbyint(start + i * delta) - 1.0);
  std::erase_if(timesteps, [](double t) { return t < 0; });
  return timesteps;
}

}  // namespace

std::vector<double> divide_schedule(const SchedulerConfig& config, int steps) {
  const int train = config.num_train_timesteps;
  std::vector<double> timesteps;
  switch (config.timestep_spacing) {
    case TimestepSpacing::linspace:
      timesteps = linspace(0.0, train - 1, steps);
      for (double& t : timesteps) t = static_cast<float>(t);
      std::reverse(timesteps.begin(), timesteps.end());
      break;
    case TimestepSpacing::leading:
      for (int i = steps - 1; i >= 0; --i) timesteps.push_back(i * (train / steps) + config.steps_offset);
      break;
    case TimestepSpacing::trailing:
      timesteps = trailing_timesteps(train, static_cast<double>(train) / steps);
      break;
  }
  return timesteps;
}

std::vector<double> divide_schedule_inside(const SchedulerConfig& config, int steps, int end) {
  std::vector<double> timesteps;
  switch (config.timestep_spacing) {
    case TimestepSpacing::linspace:
      timesteps = linspace(0.0, end - 1, steps + 1);
      for (double& t : timesteps) t = std::nearbyint(t);
      std::reverse(timesteps.begin(), timesteps.end());
      timesteps.pop_back();
      break;
    case TimestepSpacing::leading:
      for (int i = steps; i > 0; --i) timesteps.push_back(i * (end / (steps + 1)) + config.steps_offset);
      break;
    case TimestepSpacing::trailing:
      timesteps = trailing_timesteps(end, static_cast<double>(config.num_train_timesteps) / steps);
      break;
  }
  return timesteps;
}

std::vector<double> interpolate(std::span<const double> positions, std::span<const float> values) {
  std::vector<double> result;
  const auto last = static_cast<double>(values.size() - 1);
  for (const double position : positions) {
    const double x = std::clamp(position, 0.0, last);
    const auto left = static_cast<std::size_t>(x);
    const double at_left = values[left];
    if (x == static_cast<double>(left)) {
      result.push_back(at_left);
    } else {
      result.push_back((static_cast<double>(values[left + 1]) - at_left) * (x - static_cast<double>(left)) + at_left);
    }
  }
  return result;
}

double sigma_to_t(double sigma, std::span<const float> log_sigmas) {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  // The last timestep at or below sigma.
  const auto above = std::upper_bound(log_sigmas.begin(), log_sigmas.end(), log_sigma,
                                      [](double value, float element) { return value < static_cast<double>(element); });
  const std::ptrdiff_t found = std::max<std::ptrdiff_t>(above - log_sigmas.begin() - 1, 0);
  const auto left = static_cast<std::size_t>(std::min<std::ptrdiff_t>(found, std::ssize(log_sigmas) - 2));
  const float low = log_sigmas[left];
  const float high = log_sigmas[left + 1];
  const double w = std::clamp((low - log_sigma) / static_cast<double>(low - high), 0.0, 1.0);
  return (1.0 - w) * static_cast<double>(left) + w * static_cast<double>(left + 1);
}

std::vector<double> sigmas_to_t(std::span<const double> sigmas, std::span<const float> log_sigmas) {
  std::vector<double> timesteps;
  for (const double sigma : sigmas) timesteps.push_back(sigma_to_t(sigma, log_sigmas));
  return timesteps;
}

std::vector<double> karras_sigmas(SigmaRange range, int steps) {
  constexpr double rho = 7.0;
  const double low = std::pow(range.min, 1.0 / rho);
  const double high = std::pow(range.max, 1.0 / rho);
  std::vector<double> sigmas = linspace(0.0, 1.0, steps);
  for (double& sigma : sigmas) sigma = std::pow(high + sigma * (low - high), rho);
  return sigmas;
}

std::vector<double> exponential_sigmas(SigmaRange range, int steps) {
  std::vector<double> sigmas = linspace(std::log(range.max), std::log(range.min), steps);
  for (double& sigma : sigmas) sigma = std::exp(sigma);
  return sigmas;
}

std::vector<double> beta_sigmas(SigmaRange range, int steps) {
  constexpr double shape = 0.6;
  std::vector<double> sigmas = linspace(0.0, 1.0, steps);
  for (double& sigma : sigmas) {
    sigma = range.min + symmetric_beta_quantile(1.0 - sigma, shape) * (range.max - range.min);
  }
  return sigmas;
}

std::vector<double> spaced_sigmas(const SchedulerConfig& config, SigmaRange range, int steps) {
  const SigmaRange configured{config.sigma_min.value_or(range.min), config.sigma_max.value_or(range.max)};
  switch (config.sigma_spacing) {
    case SigmaSpacing::karras:
      return karras_sigmas(configured, steps);
    case SigmaSpacing::exponential:
      return exponential_sigmas(configured, steps);
    case SigmaSpacing::beta:
      return beta_sigmas(configured, steps);
    case SigmaSpacing::of_timesteps:
    case SigmaSpacing::lu:
      break;
  }
  DR_ASSERT(false);
}

}  // namespace darkroom::engine
