// DPM-Solver-2 as in Karras et al. 2022, after k-diffusion's sample_dpm_2.
// Twin: KDPM2DiscreteScheduler.
#include "engine/sampling/dpm2_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class Kdpm2Discrete : public Dpm2Scheduler {
 public:
  explicit Kdpm2Discrete(const SchedulerConfig& config) : Dpm2Scheduler(config) {}

 protected:
  std::vector<float> middles_of(std::span<const float> levels) override {
    std::vector<float> middles;
    for (std::size_t k = 1; k < levels.size(); ++k) middles.push_back(log_middle(levels[k], levels[k - 1]));
    return middles;
  }

  void second_pass(int i, std::span<const float> direction, const Halfway&, std::span<float> sample,
                   NoiseSource&) override {
    add_scaled(sample, direction, sigma(i) - sigma(i - 1));
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_kdpm2_discrete(const SchedulerConfig& config) {
  return std::make_unique<Kdpm2Discrete>(config);
}

}  // namespace darkroom::engine
