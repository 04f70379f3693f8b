// Latent consistency models: https://arxiv.org/abs/2310.04378
// Twin: LCMScheduler.
#include <cmath>

#include "engine/sampling/alpha_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

constexpr double kDataDeviation = 0.5;

class Lcm : public AlphaScheduler {
 public:
  explicit Lcm(const SchedulerConfig& config) : AlphaScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    // Boundary conditions of a consistency model: at timestep 0 it returns the sample.
    const double scaled = timestep(i) * config_.timestep_scaling;
    const double variance = scaled * scaled + kDataDeviation * kDataDeviation;
    const auto c_skip = static_cast<float>(kDataDeviation * kDataDeviation / variance);
    const auto c_out = static_cast<float>(scaled / std::sqrt(variance));
    const Prediction seen = predict(model_output, sample, alpha(timestep(i)));
    combine(c_out, seen.x0, c_skip, sample, sample);
    if (i + 1 == pass_count()) return;
    const float after = alpha(timestep(i + 1));
    std::vector<float> fresh(sample.size());
    noise.fill(fresh);
    combine(std::sqrt(after), sample, std::sqrt(1.0F - after), fresh, sample);
  }

 protected:
  void lay_out(int steps) override { pick_original_timesteps(steps); }
};

}  // namespace

std::unique_ptr<Scheduler> make_lcm(const SchedulerConfig& config) { return std::make_unique<Lcm>(config); }

}  // namespace darkroom::engine
