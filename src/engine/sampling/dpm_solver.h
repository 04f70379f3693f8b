// What the multistep and the singlestep DPM-Solver share: the weights of one update.
// DPM-Solver https://arxiv.org/abs/2206.00927, DPM-Solver++ https://arxiv.org/abs/2211.01095
#pragma once

#include <span>
#include <vector>

#include "engine/sampling/log_snr_scheduler.h"

namespace darkroom::engine {

// x' = sample·x + d0·D0 + d1·D1 + d2·D2 + noise·fresh noise, where D0 is the prediction at the beginning of the update
// and D1, D2 are its differences in λ.
struct DpmUpdate {
  float sample = 0.0F;
  float d0 = 0.0F;
  float d1_midpoint = 0.0F, d1_heun = 0.0F;
  float d2 = 0.0F;
  float noise = 0.0F;

  float d1(SolverType type) const { return type == SolverType::heun ? d1_heun : d1_midpoint; }
};
DpmUpdate dpm_update(AlgorithmType algorithm, const Level& from, const Level& to);

class DpmSolver : public LogSnrScheduler {
 protected:
  explicit DpmSolver(const SchedulerConfig& config) : LogSnrScheduler(config) {}

  // Spaced steps, and the last sigma.
  void lay_out_sigmas(int steps);
  // The prediction that the algorithm integrates.
  std::vector<float> prediction(int i, std::span<const float> model_output, std::span<const float> sample) const;

  // One direction of an update and its weight.
  struct Term {
    float weight = 0.0F;
    std::span<const float> direction;
  };
  // sample = update.sample · from + terms + noise, drawn if the algorithm is stochastic.
  void apply(const DpmUpdate& update, std::span<const float> from, std::initializer_list<Term> terms,
             std::span<float> sample, NoiseSource& noise) const;
};

// factor · (a − b)
std::vector<float> scaled_difference(float factor, std::span<const float> a, std::span<const float> b);

}  // namespace darkroom::engine
