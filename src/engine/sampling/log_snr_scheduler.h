// The multistep solvers in λ = log(α/σ): DPM-Solver, UniPC, DEIS. Samples are α·x0 + σ·noise with α² + σ² = 1;
// sigmas() are σ/α. They keep the last few predictions, all of the picture (x0) or all of the noise.
#pragma once

#include <deque>
#include <span>
#include <vector>

#include "engine/sampling/noise_schedule.h"
#include "engine/sampling/scheduler.h"
#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {

// A noise level in all its forms.
struct Level {
  float alpha = 1.0F, sigma = 0.0F, lambda = 0.0F;
};
Level level_of(float sigma_over_alpha);

class LogSnrScheduler : public Scheduler {
 public:
  void add_noise(std::span<const float> original, std::span<const float> noise, int i,
                 std::span<float> out) const override;

 protected:
  explicit LogSnrScheduler(const SchedulerConfig& config);

  // Fills timesteps_ and the sigmas of the steps, without the last. Whole timesteps: those of Karras and lu sigmas are
  // rounded, others cut off.
  void space_steps(int steps);
  float least_train_sigma() const { return train_sigmas_.front(); }
  int step_count() const { return static_cast<int>(timesteps_.size()); }
  Level level(int i) const { return level_of(sigmas_[static_cast<std::size_t>(i)]); }

  // The order of step i of a multistep solver: as many as there are predictions, but low at the end where
  // lower_order_final says so, or the solver.
  int multistep_order(int i, bool ends_with_euler) const;

  // What the model predicts before pass i, as the picture or as the noise.
  std::vector<float> predicted_picture(int i, std::span<const float> model_output,
                                       std::span<const float> sample) const;
  std::vector<float> predicted_noise(int i, std::span<const float> model_output, std::span<const float> sample) const;

  // Predictions, newest first; never more than solver_order.
  void remember(std::vector<float> prediction);
  void forget_steps() { predictions_.clear(); }
  const std::deque<std::vector<float>>& predictions() const { return predictions_; }

  SchedulerConfig config_;

 private:
  std::vector<float> train_sigmas_;  // by timestep
  int usable_timesteps_ = 0;
  std::deque<std::vector<float>> predictions_;
};

}  // namespace darkroom::engine
