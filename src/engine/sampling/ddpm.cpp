// Denoising diffusion probabilistic models: https://arxiv.org/abs/2006.11239, eq. 7.
// Twin: DDPMScheduler.
#include <algorithm>
#include <cmath>

#include "engine/sampling/alpha_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class Ddpm : public AlphaScheduler {
 public:
  explicit Ddpm(const SchedulerConfig& config) : AlphaScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    const float before = alpha(timestep(i));
    const float after = i + 1 < pass_count() ? alpha(timestep(i + 1)) : 1.0F;
    const float kept = before / after;
    const float added = 1.0F - kept;
    const Prediction seen = predict(model_output, sample, before);
    combine(std::sqrt(after) * added / (1.0F - before), seen.x0, std::sqrt(kept) * (1.0F - after) / (1.0F - before),
            sample, sample);
    if (timestep(i) == 0) return;
    std::vector<float> fresh(sample.size());
    noise.fill(fresh);
    const float posterior = std::max((1.0F - after) / (1.0F - before) * added, 1e-20F);
    combine(1.0F, sample, std::sqrt(config_.variance_type == VarianceType::fixed_large ? added : posterior), fresh,
            sample);
  }

 protected:
  void lay_out(int steps) override { divide_timesteps(steps); }
};

}  // namespace

std::unique_ptr<Scheduler> make_ddpm(const SchedulerConfig& config) { return std::make_unique<Ddpm>(config); }

}  // namespace darkroom::engine
