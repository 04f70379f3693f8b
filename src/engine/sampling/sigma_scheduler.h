// The solvers whose samples are x0 + σ·noise: Euler, Heun, DPM2, LMS (Karras et al. 2022).
#pragma once

#include <span>
#include <vector>

#include "engine/sampling/noise_schedule.h"
#include "engine/sampling/scheduler.h"
#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {

class SigmaScheduler : public Scheduler {
 public:
  void scale_model_input(int i, std::span<float> sample) const override;
  void add_noise(std::span<const float> original, std::span<const float> noise, int i,
                 std::span<float> out) const override;

 protected:
  SigmaScheduler(const SchedulerConfig& config, int order);

  struct Steps {
    std::vector<double> timesteps;
    std::vector<double> sigmas;  // one a step
  };
  // One entry a step, before the solver doubles some. Fills init_noise_sigma_.
  Steps spaced_steps(int steps);

  // Of solvers with one pass a step: sigmas_ and timesteps_ are those steps, and the end.
  void lay_out_single_passes(int steps, float last_sigma);

  float sigma(int i) const { return sigmas_[static_cast<std::size_t>(i)]; }
  // The picture that the model sees in a sample at noise level sigma.
  std::vector<float> denoised(std::span<const float> model_output, std::span<const float> sample, float sigma) const;

  SchedulerConfig config_;
  NoiseSchedule schedule_;
  std::vector<float> train_sigmas_;  // by timestep
  std::vector<float> log_sigmas_;
};

// Divides a sample at noise level sigma by its standard deviation, sqrt(σ² + 1).
void scale_by_level(std::span<float> sample, float sigma);

std::vector<float> to_floats(std::span<const double> values);

// dx/dσ = (x − x0) / σ
std::vector<float> slope(std::span<const float> sample, std::span<const float> denoised, float sigma);
// values += factor · direction
void add_scaled(std::span<float> values, std::span<const float> direction, float factor);
// values += factor · fresh noise
void add_noise_scaled(std::span<float> values, NoiseSource& noise, float factor);

// An ancestral step from one noise level to the next goes down to `down` and adds `up` of fresh noise.
struct AncestralStep {
  float down = 0.0F, up = 0.0F;
};
AncestralStep ancestral_step(float from, float to);

}  // namespace darkroom::engine
