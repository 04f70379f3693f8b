// Linear multistep (Adams-Bashforth on uneven steps) of order up to 4, after k-diffusion's sample_lms.
// Twin: LMSDiscreteScheduler.
#include <algorithm>
#include <cmath>
#include <deque>

#include "engine/sampling/sigma_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

constexpr int kOrder = 4;

class LmsDiscrete : public SigmaScheduler {
 public:
  explicit LmsDiscrete(const SchedulerConfig& config) : SigmaScheduler(config, /*order=*/1) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource&) override {
    slopes_.push_front(slope(sample, denoised(model_output, sample, sigma(i)), sigma(i)));
    if (slopes_.size() > kOrder) slopes_.pop_back();
    // compat(diffusers): the order is counted from the schedule's first step, though a later start (image to image)
    // has no slopes from before it, and their terms are missing.
    const int order = std::min(i + 1, kOrder);
    const std::size_t terms = std::min(slopes_.size(), static_cast<std::size_t>(order));
    std::vector<float> sum(sample.size(), 0.0F);
    for (std::size_t k = 0; k < terms; ++k) add_scaled(sum, slopes_[k], weight(i, order, static_cast<int>(k)));
    add_scaled(sample, sum, 1.0F);
  }

 protected:
  void lay_out(int steps) override {
    lay_out_single_passes(steps, /*last_sigma=*/0.0F);
    slopes_.clear();
  }

 private:
  // Integral over step i of the Lagrange polynomial that is 1 at sigma(i - k) and 0 at the order's other points;
  // two Gauss points are exact up to degree 3.
  float weight(int i, int order, int k) const {
    const double from = sigma(i);
    const double to = sigma(i + 1);
    const double radius = (to - from) / 2;
    double sum = 0.0;
    for (const double at : {-1.0 / std::sqrt(3.0), 1.0 / std::sqrt(3.0)}) {
      const double tau = (from + to) / 2 + radius * at;
      double product = 1.0;
      for (int other = 0; other < order; ++other) {
        if (other != k) product *= (tau - sigma(i - other)) / (static_cast<double>(sigma(i - k)) - sigma(i - other));
      }
      sum += product;
    }
    return static_cast<float>(radius * sum);
  }

  std::deque<std::vector<float>> slopes_;  // newest first
};

}  // namespace

std::unique_ptr<Scheduler> make_lms_discrete(const SchedulerConfig& config) {
  return std::make_unique<LmsDiscrete>(config);
}

}  // namespace darkroom::engine
