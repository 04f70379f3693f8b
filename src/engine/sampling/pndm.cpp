// Pseudo numerical methods for diffusion models: https://arxiv.org/abs/2202.09778; "PLMS" without its Runge-Kutta start.
// Twin: PNDMScheduler.
#include <algorithm>
#include <cmath>
#include <deque>

#include "engine/sampling/alpha_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

constexpr std::size_t kOrder = 4;

class Pndm : public AlphaScheduler {
 public:
  explicit Pndm(const SchedulerConfig& config) : AlphaScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource&) override {
    // compat(diffusers): the state is counted from the first step taken, also where that is not the schedule's first.
    if (counter_ < runge_kutta_passes_) {
      runge_kutta(i, model_output, sample);
    } else {
      multistep(i, model_output, sample);
    }
    ++counter_;
  }

 protected:
  void lay_out(int steps) override {
    divide_timesteps(steps);
    stride_ = config_.num_train_timesteps / steps;
    counter_ = 0;
    runge_kutta_passes_ = 0;
    outputs_.clear();
    if (config_.skip_prk_steps) {
      // The second point is visited twice: once to get there, once to correct the way.
      if (timesteps_.size() > 1) timesteps_.insert(timesteps_.begin() + 1, timesteps_[1]);
      return;
    }
    if (timesteps_.size() < kOrder) {
      throw_failure(ErrorCode::invalid_argument, "steps: {} is less than {}, which the Runge-Kutta start takes", steps,
                    kOrder);
    }
    // Four passes each for three steps: at the beginning, twice in the middle, at the end.
    std::vector<float> passes;
    for (std::size_t k = 0; k + 1 < kOrder; ++k) {
      const float middle = timesteps_[k + 1] + static_cast<float>(stride_ / 2);
      passes.insert(passes.end(), {timesteps_[k], middle, middle, timesteps_[k + 1]});
    }
    runge_kutta_passes_ = static_cast<int>(passes.size());
    passes.insert(passes.end(), timesteps_.begin() + kOrder - 1, timesteps_.end());
    timesteps_ = std::move(passes);
  }

 private:
  void runge_kutta(int i, std::span<const float> model_output, std::span<float> sample) {
    const int stage = counter_ % 4;
    const int to = timestep(i) - (stage % 2 == 1 ? 0 : stride_ / 2);
    const int from = timestep(counter_ / 4 * 4);
    if (stage == 0) {
      sum_.assign(sample.size(), 0.0F);
      outputs_.push_front({model_output.begin(), model_output.end()});
      start_.assign(sample.begin(), sample.end());
    }
    combine(1.0F, sum_, stage == 0 || stage == 3 ? 1.0F / 6.0F : 1.0F / 3.0F, model_output, sum_);
    transfer(from, to, stage == 3 ? std::span<const float>(sum_) : model_output,
             start_.empty() ? std::span<const float>(sample) : start_, sample);
  }

  void multistep(int i, std::span<const float> model_output, std::span<float> sample) {
    int from = timestep(i);
    int to = from - stride_;
    if (counter_ == 1) {
      to = from;
      from += stride_;
    } else {
      outputs_.push_front({model_output.begin(), model_output.end()});
      if (outputs_.size() > kOrder) outputs_.pop_back();
    }
    std::vector<float> output(sample.size());
    std::span<const float> before = sample;
    if (counter_ == 0) {
      std::ranges::copy(model_output, output.begin());
      start_.assign(sample.begin(), sample.end());
    } else if (counter_ == 1) {
      for (std::size_t k = 0; k < output.size(); ++k) output[k] = (model_output[k] + outputs_[0][k]) / 2.0F;
      before = start_;
    } else {
      output = extrapolated();
    }
    transfer(from, to, output, before, sample);
  }

  // Adams-Bashforth of as many outputs as there are.
  std::vector<float> extrapolated() const {
    static const std::vector<std::vector<float>> weights = {
        {1.0F}, {3.0F, -1.0F}, {23.0F, -16.0F, 5.0F}, {55.0F, -59.0F, 37.0F, -9.0F}};
    static constexpr float divisors[] = {1.0F, 2.0F, 12.0F, 24.0F};
    const std::vector<float>& chosen = weights[outputs_.size() - 1];
    std::vector<float> sum(outputs_[0].size(), 0.0F);
    for (std::size_t n = 0; n < chosen.size(); ++n) combine(1.0F, sum, chosen[n], outputs_[n], sum);
    for (float& x : sum) x /= divisors[outputs_.size() - 1];
    return sum;
  }

  // Equation 9 of the paper: from timestep `from` to `to`.
  void transfer(int from, int to, std::span<const float> output, std::span<const float> before,
                std::span<float> sample) const {
    const float a = alpha(from);
    const float a_to = alpha(to);
    const float b = 1.0F - a;
    const float denominator = a * std::sqrt(1.0F - a_to) + std::sqrt(a * b * a_to);
    const std::vector<float> epsilon = predict(output, before, a).epsilon;
    combine(std::sqrt(a_to / a), before, -(a_to - a) / denominator, epsilon, sample);
  }

  int stride_ = 0;  // timesteps from one step to the next
  int counter_ = 0;
  int runge_kutta_passes_ = 0;
  std::deque<std::vector<float>> outputs_;  // newest first
  std::vector<float> start_;                // sample that several passes start from
  std::vector<float> sum_;                  // of a Runge-Kutta step's outputs
};

}  // namespace

std::unique_ptr<Scheduler> make_pndm(const SchedulerConfig& config) { return std::make_unique<Pndm>(config); }

}  // namespace darkroom::engine
