// DPM-Solver-2 as in Karras et al. 2022: the second look is from the logarithmic middle of the step.
// Twin: KDPM2DiscreteScheduler.
#include "engine/sampling/solvers.h"
#include "engine/sampling/two_pass_scheduler.h"

namespace darkroom::engine {

namespace {

class Kdpm2Discrete : public TwoPassScheduler {
 public:
  explicit Kdpm2Discrete(const SchedulerConfig& config) : TwoPassScheduler(config) {}

 protected:
  void lay_out(int steps) override {
    const Steps spaced = rounded_steps(steps);
    std::vector<float> levels = to_floats(spaced.sigmas);
    levels.push_back(0.0F);
    middles_.clear();
    for (std::size_t k = 1; k < levels.size(); ++k) middles_.push_back(log_middle(levels[k], levels[k - 1]));
    interleave_timesteps(spaced.timesteps, middles_);
    sigmas_ = doubled(levels);
    forget_steps();
  }

  void first_pass(int i, std::span<const float> direction, std::span<float> sample) override {
    add_scaled(sample, direction, middles_[step_of(i)] - sigma(i));
  }

  void second_pass(int i, std::span<const float> direction, const Halfway&, std::span<float> sample,
                   NoiseSource&) override {
    add_scaled(sample, direction, sigma(i) - sigma(i - 1));
  }

  float sigma_of_second(int i) const override { return middles_[step_of(i)]; }

 private:
  static std::size_t step_of(int pass) { return static_cast<std::size_t>(pass / 2); }

  std::vector<float> middles_;  // σ, one a step; the last is 0
};

}  // namespace

std::unique_ptr<Scheduler> make_kdpm2_discrete(const SchedulerConfig& config) {
  return std::make_unique<Kdpm2Discrete>(config);
}

}  // namespace darkroom::engine
