// Euler's method, Karras et al. 2022, algorithm 2 without churn: https://arxiv.org/abs/2206.00364
// Twin: EulerDiscreteScheduler.
#include <cmath>

#include "engine/sampling/sigma_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class EulerDiscrete : public SigmaScheduler {
 public:
  explicit EulerDiscrete(const SchedulerConfig& config) : SigmaScheduler(config, /*order=*/1) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource&) override {
    const std::vector<float> x0 = denoised(model_output, sample, sigma(i));
    add_scaled(sample, slope(sample, x0, sigma(i)), sigma(i + 1) - sigma(i));
  }

 protected:
  void lay_out(int steps) override {
    lay_out_single_passes(steps, config_.final_sigmas_type == FinalSigmas::sigma_min ? train_sigmas_.front() : 0.0F);
    const bool continuous =
        config_.timestep_type == TimestepType::continuous && config_.prediction_type == PredictionType::v_prediction;
    if (continuous) {
      for (std::size_t k = 0; k < timesteps_.size(); ++k) timesteps_[k] = 0.25F * std::log(sigmas_[k]);
    }
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_euler_discrete(const SchedulerConfig& config) {
  return std::make_unique<EulerDiscrete>(config);
}

}  // namespace darkroom::engine
