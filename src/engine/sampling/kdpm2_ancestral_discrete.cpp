// DPM-Solver-2 whose steps go down further than their end and come back with fresh noise.
// Twin: KDPM2AncestralDiscreteScheduler.
#include "engine/sampling/solvers.h"
#include "engine/sampling/two_pass_scheduler.h"

namespace darkroom::engine {

namespace {

class Kdpm2AncestralDiscrete : public TwoPassScheduler {
 public:
  explicit Kdpm2AncestralDiscrete(const SchedulerConfig& config) : TwoPassScheduler(config) {}

 protected:
  void lay_out(int steps) override {
    const Steps spaced = rounded_steps(steps);
    std::vector<float> levels = to_floats(spaced.sigmas);
    levels.push_back(0.0F);
    ends_.clear();
    middles_.clear();
    for (std::size_t k = 0; k + 1 < levels.size(); ++k) {
      ends_.push_back(ancestral_step(levels[k], levels[k + 1]));
      middles_.push_back(log_middle(levels[k], ends_.back().down));
    }
    middles_.back() = 0.0F;
    interleave_timesteps(spaced.timesteps, middles_);
    sigmas_ = doubled(levels);
    forget_steps();
  }

  void first_pass(int i, std::span<const float> direction, std::span<float> sample) override {
    add_scaled(sample, direction, middles_[step_of(i)] - sigma(i));
  }

  void second_pass(int i, std::span<const float> direction, const Halfway&, std::span<float> sample,
                   NoiseSource& noise) override {
    const AncestralStep end = ends_[step_of(i)];
    add_scaled(sample, direction, end.down - sigma(i - 1));
    add_noise_scaled(sample, noise, end.up);
  }

  float sigma_of_second(int i) const override { return middles_[step_of(i)]; }

 private:
  static std::size_t step_of(int pass) { return static_cast<std::size_t>(pass / 2); }

  std::vector<float> middles_;       // σ, one a step; the last is 0
  std::vector<AncestralStep> ends_;  // one a step
};

}  // namespace

std::unique_ptr<Scheduler> make_kdpm2_ancestral_discrete(const SchedulerConfig& config) {
  return std::make_unique<Kdpm2AncestralDiscrete>(config);
}

}  // namespace darkroom::engine
