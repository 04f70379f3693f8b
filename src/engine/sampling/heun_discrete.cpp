// Heun's method, Karras et al. 2022, algorithm 1: https://arxiv.org/abs/2206.00364
// Twin: HeunDiscreteScheduler.
#include <algorithm>

#include "engine/sampling/solvers.h"
#include "engine/sampling/two_pass_scheduler.h"

namespace darkroom::engine {

namespace {

class HeunDiscrete : public TwoPassScheduler {
 public:
  explicit HeunDiscrete(const SchedulerConfig& config) : TwoPassScheduler(config) {}

 protected:
  void lay_out(int steps) override {
    const Steps spaced = spaced_steps(steps);
    timesteps_ = doubled(to_floats(spaced.timesteps));
    timesteps_.pop_back();
    sigmas_ = doubled(to_floats(spaced.sigmas));
    sigmas_.back() = 0.0F;
    forget_steps();
  }

  void first_pass(int i, std::span<const float> direction, std::span<float> sample) override {
    add_scaled(sample, direction, sigma(i + 1) - sigma(i));
  }

  void second_pass(int i, std::span<const float> direction, const Halfway& before, std::span<float> sample,
                   NoiseSource&) override {
    const float distance = sigma(i) - sigma(i - 1);
    for (std::size_t k = 0; k < sample.size(); ++k) sample[k] += (before.slope[k] + direction[k]) / 2.0F * distance;
  }

  float sigma_of_second(int i) const override { return sigma(i); }

  std::vector<float> limited(std::vector<float> x0) const override {
    if (config_.clip_sample) {
      const auto range = static_cast<float>(config_.clip_sample_range);
      for (float& x : x0) x = std::clamp(x, -range, range);
    }
    return x0;
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_heun_discrete(const SchedulerConfig& config) {
  return std::make_unique<HeunDiscrete>(config);
}

}  // namespace darkroom::engine
