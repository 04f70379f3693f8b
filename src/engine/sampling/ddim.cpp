// Denoising diffusion implicit models: https://arxiv.org/abs/2010.02502, eq. 12 and 16.
// Twin: DDIMScheduler.
#include <cmath>

#include "engine/sampling/alpha_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class Ddim : public AlphaScheduler {
 public:
  explicit Ddim(const SchedulerConfig& config) : AlphaScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    const float before = alpha(timestep(i));
    const float after = alpha(timestep(i) - stride_);
    const auto [x0, epsilon] = predict(model_output, sample, before);
    const float variance = (1.0F - after) / (1.0F - before) * (1.0F - before / after);
    const float deviation = static_cast<float>(config_.eta) * std::sqrt(variance);
    combine(std::sqrt(after), x0, std::sqrt(1.0F - after - deviation * deviation), epsilon, sample);
    if (config_.eta > 0.0) {
      std::vector<float> fresh(sample.size());
      noise.fill(fresh);
      combine(1.0F, sample, deviation, fresh, sample);
    }
  }

 protected:
  void lay_out(int steps) override {
    divide_timesteps(steps);
    stride_ = config_.num_train_timesteps / steps;
  }

 private:
  int stride_ = 0;  // timesteps from one step to the next
};

}  // namespace

std::unique_ptr<Scheduler> make_ddim(const SchedulerConfig& config) { return std::make_unique<Ddim>(config); }

}  // namespace darkroom::engine
