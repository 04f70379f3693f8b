// Diffusion exponential integrator sampler in ρ = σ/α, its polynomials in log ρ: https://arxiv.org/abs/2204.13902
// Twin: DEISMultistepScheduler.
#include <cmath>

#include "engine/sampling/log_snr_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

// Antiderivatives in t of the Lagrange polynomials in log t that are 1 at b and 0 at c (and d).
float antiderivative(float t, float b, float c) {
  return t * (-std::log(c) + std::log(t) - 1.0F) / (std::log(b) - std::log(c));
}
float antiderivative(float t, float b, float c, float d) {
  const float log_t = std::log(t);
  const float log_c = std::log(c);
  const float log_d = std::log(d);
  const float numerator =
      t * (log_c * (log_d - log_t + 1.0F) - log_d * log_t + log_d + log_t * log_t - 2.0F * log_t + 2.0F);
  return numerator / ((std::log(b) - log_c) * (std::log(b) - log_d));
}

class DeisMultistep : public LogSnrScheduler {
 public:
  explicit DeisMultistep(const SchedulerConfig& config) : LogSnrScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource&) override {
    remember(noise_of_picture(i, predicted_picture(i, model_output, sample), sample));
    const Level to = level(i + 1);
    const Level from = level(i);
    const int order = multistep_order(i, /*ends_with_euler=*/false);
    if (order == 1) {
      const float weight = to.sigma * (std::exp(to.lambda - from.lambda) - 1.0F);
      for (std::size_t k = 0; k < sample.size(); ++k) {
        sample[k] = to.alpha / from.alpha * sample[k] - weight * predictions()[0][k];
      }
      return;
    }
    for (float& x : sample) x /= from.alpha;
    const std::vector<float> weights = weights_at(i, order);
    for (std::size_t n = 0; n < weights.size(); ++n) {
      for (std::size_t k = 0; k < sample.size(); ++k) sample[k] += weights[n] * predictions()[n][k];
    }
    for (float& x : sample) x *= to.alpha;
  }

 protected:
  void lay_out(int steps) override {
    space_steps(steps);
    // compat(diffusers): never ends at 0, though it skips the last timestep; laid-out sigmas repeat their last.
    const bool laid_out = config_.sigma_spacing != SigmaSpacing::of_timesteps;
    sigmas_.push_back(laid_out ? sigmas_.back() : least_train_sigma());
    forget_steps();
  }

 private:
  std::vector<float> noise_of_picture(int i, std::vector<float> x0, std::span<const float> sample) const {
    const Level at = level(i);
    for (std::size_t k = 0; k < x0.size(); ++k) x0[k] = (sample[k] - at.alpha * x0[k]) / at.sigma;
    return x0;
  }

  float rho(int i) const {
    const Level at = level(i);
    return at.sigma / at.alpha;
  }

  // Integrals over the step, one for each of the last `order` predictions.
  std::vector<float> weights_at(int i, int order) const {
    const float end = rho(i + 1);
    const float r0 = rho(i);
    const float r1 = rho(i - 1);
    if (order == 2) {
      return {antiderivative(end, r0, r1) - antiderivative(r0, r0, r1),
              antiderivative(end, r1, r0) - antiderivative(r0, r1, r0)};
    }
    const float r2 = rho(i - 2);
    return {antiderivative(end, r0, r1, r2) - antiderivative(r0, r0, r1, r2),
            antiderivative(end, r1, r2, r0) - antiderivative(r0, r1, r2, r0),
            antiderivative(end, r2, r0, r1) - antiderivative(r0, r2, r0, r1)};
  }
};

}  // namespace

std::unique_ptr<Scheduler> make_deis_multistep(const SchedulerConfig& config) {
  return std::make_unique<DeisMultistep>(config);
}

}  // namespace darkroom::engine
