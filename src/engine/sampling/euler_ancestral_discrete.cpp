// Euler's method with fresh noise in every step, after k-diffusion's sample_euler_ancestral.
// Twin: EulerAncestralDiscreteScheduler.
#include "engine/sampling/sigma_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class EulerAncestralDiscrete : public SigmaScheduler {
 public:
  explicit EulerAncestralDiscrete(const SchedulerConfig& config) : SigmaScheduler(config, /*order=*/1) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    const std::vector<float> x0 = denoised(model_output, sample, sigma(i));
    const AncestralStep to = ancestral_step(sigma(i), sigma(i + 1));
    add_scaled(sample, slope(sample, x0, sigma(i)), to.down - sigma(i));
    add_noise_scaled(sample, noise, to.up);
  }

 protected:
  void lay_out(int steps) override { lay_out_single_passes(steps, /*last_sigma=*/0.0F); }
};

}  // namespace

std::unique_ptr<Scheduler> make_euler_ancestral_discrete(const SchedulerConfig& config) {
  return std::make_unique<EulerAncestralDiscrete>(config);
}

}  // namespace darkroom::engine
