// The solvers that work on timesteps and ᾱ, the share of the picture's variance: DDIM, DDPM, PNDM, LCM, TCD.
#pragma once

#include <span>
#include <vector>

#include "engine/sampling/noise_schedule.h"
#include "engine/sampling/scheduler.h"
#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {

class AlphaScheduler : public Scheduler {
 public:
  void add_noise(std::span<const float> original, std::span<const float> noise, int i,
                 std::span<float> out) const override;

 protected:
  explicit AlphaScheduler(const SchedulerConfig& config);

  int timestep(int i) const { return static_cast<int>(timesteps_[static_cast<std::size_t>(i)]); }
  int pass_count() const { return static_cast<int>(timesteps_.size()); }
  // ᾱ; after the last timestep (below 0) that of the clean picture.
  float alpha(int timestep) const;
  float alpha_of_clean() const { return clean_alpha_; }

  struct Prediction {
    std::vector<float> x0;       // clipped where the configuration says so
    std::vector<float> epsilon;  // as predicted, not of the clipped x0
  };
  // What the model sees in a sample whose share of the picture is `alpha`.
  Prediction predict(std::span<const float> model_output, std::span<const float> sample, float alpha) const;

  // Whole timesteps by the configured spacing; Failure invalid_argument where they leave the schedule.
  void divide_timesteps(int steps);
  // Of distilled models: some of the original_inference_steps the model was distilled from. Failure invalid_argument
  // for more steps than those.
  void pick_original_timesteps(int steps);

  SchedulerConfig config_;

 private:
  std::vector<float> alphas_cumprod_;
  float clean_alpha_ = 1.0F;
};

// out = a·x + b·y
void combine(float a, std::span<const float> x, float b, std::span<const float> y, std::span<float> out);

}  // namespace darkroom::engine
