// The pure parts that schedulers share: the noise of training, and where the steps of a run lie on it.
// Twins: numpy and torch as diffusers uses them; float where diffusers has float32, double where it has float64.
#pragma once

#include <span>
#include <vector>

#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {

// Noise of training, by timestep.
struct NoiseSchedule {
  std::vector<float> betas;           // added variance
  std::vector<float> alphas_cumprod;  // what is left of the picture's variance
};
NoiseSchedule noise_schedule(const SchedulerConfig& config);
// Lifts the last of alphas_cumprod off zero where zero terminal SNR made it so, for solvers that divide by it.
void keep_terminal_alpha(const SchedulerConfig& config, NoiseSchedule& schedule);

// sqrt((1 − ᾱ) / ᾱ), by timestep.
std::vector<float> sigmas_of(std::span<const float> alphas_cumprod);
std::vector<float> logs_of(std::span<const float> values);

// numpy.linspace.
std::vector<double> linspace(double start, double stop, int count);

// `steps` timesteps from noisy to clean, by the configured spacing, of the solvers whose steps divide the schedule
// by `steps`; linspace gives fractions.
std::vector<double> divide_schedule(const SchedulerConfig& config, int steps);
// The same of the solvers that divide it by steps + 1 and leave out the last point; `end` is the number of usable
// timesteps. Whole numbers.
std::vector<double> divide_schedule_inside(const SchedulerConfig& config, int steps, int end);

// Values at fractional positions, linear in between, the ends kept: numpy.interp.
std::vector<double> interpolate(std::span<const double> positions, std::span<const float> values);
// The timestep, with its fraction, whose noise level is sigma.
double sigma_to_t(double sigma, std::span<const float> log_sigmas);
std::vector<double> sigmas_to_t(std::span<const double> sigmas, std::span<const float> log_sigmas);

struct SigmaRange {
  double min = 0.0, max = 0.0;
};
// `steps` noise levels from max to min. Karras et al. 2022, eq. 5 with ρ = 7; exponential: even in log σ;
// beta: Lee et al. 2024 with α = β = 0.6.
std::vector<double> karras_sigmas(SigmaRange range, int steps);
std::vector<double> exponential_sigmas(SigmaRange range, int steps);
std::vector<double> beta_sigmas(SigmaRange range, int steps);
// One of these as sigma_spacing says; the range is the configured, else `range`.
std::vector<double> spaced_sigmas(const SchedulerConfig& config, SigmaRange range, int steps);

}  // namespace darkroom::engine
