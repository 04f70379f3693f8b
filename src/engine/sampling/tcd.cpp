// Trajectory consistency distillation: https://arxiv.org/abs/2402.19159, algorithm 4 ("gamma" there is eta here).
// Twin: TCDScheduler.
#include <cmath>

#include "engine/sampling/alpha_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class Tcd : public AlphaScheduler {
 public:
  explicit Tcd(const SchedulerConfig& config) : AlphaScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    const int next = i + 1 < pass_count() ? timestep(i + 1) : 0;
    const float after = alpha(next);
    // Down to a cleaner point than the next timestep, then up again with fresh noise.
    const float below =
        alpha(static_cast<int>(std::floor(static_cast<float>(1.0 - config_.eta) * static_cast<float>(next))));
    const auto [x0, epsilon] = predict(model_output, sample, alpha(timestep(i)));
    combine(std::sqrt(below), x0, std::sqrt(1.0F - below), epsilon, sample);
    if (config_.eta == 0.0 || i + 1 == pass_count()) return;
    std::vector<float> fresh(sample.size());
    noise.fill(fresh);
    combine(std::sqrt(after / below), sample, std::sqrt(1.0F - after / below), fresh, sample);
  }

 protected:
  void lay_out(int steps) override { pick_original_timesteps(steps); }
};

}  // namespace

std::unique_ptr<Scheduler> make_tcd(const SchedulerConfig& config) { return std::make_unique<Tcd>(config); }

}  // namespace darkroom::engine
