// DPM-Solver-2 whose steps go down further than their end and come back with fresh noise.
// Twin: KDPM2AncestralDiscreteScheduler.
#include "engine/sampling/dpm2_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class Kdpm2AncestralDiscrete : public Dpm2Scheduler {
 public:
  explicit Kdpm2AncestralDiscrete(const SchedulerConfig& config) : Dpm2Scheduler(config) {}

 protected:
  std::vector<float> middles_of(std::span<const float> levels) override {
    ends_.clear();
    std::vector<float> middles;
    for (std::size_t k = 1; k < levels.size(); ++k) {
      ends_.push_back(ancestral_step(levels[k - 1], levels[k]));
      middles.push_back(log_middle(levels[k - 1], ends_.back().down));
    }
    middles.back() = 0.0F;
    return middles;
  }

  void second_pass(int i, std::span<const float> direction, const Halfway&, std::span<float> sample,
                   NoiseSource& noise) override {
    const AncestralStep end = ends_[step_of(i)];
    add_scaled(sample, direction, end.down - sigma(i - 1));
    add_noise_scaled(sample, noise, end.up);
  }

 private:
  std::vector<AncestralStep> ends_;  // one a step
};

}  // namespace

std::unique_ptr<Scheduler> make_kdpm2_ancestral_discrete(const SchedulerConfig& config) {
  return std::make_unique<Kdpm2AncestralDiscrete>(config);
}

}  // namespace darkroom::engine
