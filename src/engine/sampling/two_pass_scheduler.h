// σ-solvers that ask the model twice a step: at its beginning, and once more from the point the first answer led to.
#pragma once

#include <optional>
#include <vector>

#include "engine/sampling/sigma_scheduler.h"

namespace darkroom::engine {

class TwoPassScheduler : public SigmaScheduler {
 public:
  void scale_model_input(int i, std::span<float> sample) const override;
  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) final;

 protected:
  explicit TwoPassScheduler(const SchedulerConfig& config) : SigmaScheduler(config, /*order=*/2) {}

  struct Halfway {
    std::vector<float> sample;  // before the step
    std::vector<float> slope;   // there
  };
  virtual void first_pass(int i, std::span<const float> slope, std::span<float> sample) = 0;
  // `slope` at sigma_of_second(i); `sample` holds the sample from before the step again.
  virtual void second_pass(int i, std::span<const float> slope, const Halfway& before, std::span<float> sample,
                           NoiseSource& noise) = 0;
  // The noise level of the point that the second pass, i, looks from.
  virtual float sigma_of_second(int i) const = 0;

  bool in_second_pass() const { return halfway_.has_value(); }
  // The noise level that pass i looks from.
  float sigma_of_pass(int i) const { return in_second_pass() ? sigma_of_second(i) : sigma(i); }
  virtual std::vector<float> limited(std::vector<float> denoised) const { return denoised; }

  // [a, b, b, …, y, y, z, z, z]: one entry a pass of [a, b, …, z].
  static std::vector<float> doubled(std::span<const float> values);
  void forget_steps() { halfway_.reset(); }

 private:
  std::optional<Halfway> halfway_;
};

}  // namespace darkroom::engine
