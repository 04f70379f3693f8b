// UniPC, a predictor and a corrector of any order that share their model outputs: https://arxiv.org/abs/2302.04867
// Twin: UniPCMultistepScheduler.
#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/sampling/log_snr_scheduler.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

// Solves a·x = b, a square, by elimination with pivots.
std::vector<float> solve(std::vector<std::vector<float>> a, std::vector<float> b) {
  const std::size_t n = b.size();
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column + 1; row < n; ++row) {
      if (std::abs(a[row][column]) > std::abs(a[pivot][column])) pivot = row;
    }
    std::swap(a[column], a[pivot]);
    std::swap(b[column], b[pivot]);
    for (std::size_t row = column + 1; row < n; ++row) {
      const float factor = a[row][column] / a[column][column];
      for (std::size_t k = column; k < n; ++k) a[row][k] -= factor * a[column][k];
      b[row] -= factor * b[column];
    }
  }
  for (std::size_t row = n; row-- > 0;) {
    for (std::size_t k = row + 1; k < n; ++k) b[row] -= a[row][k] * b[k];
    b[row] /= a[row][row];
  }
  return b;
}

class UniPcMultistep : public LogSnrScheduler {
 public:
  explicit UniPcMultistep(const SchedulerConfig& config) : LogSnrScheduler(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource&) override {
    std::vector<float> predicted =
        config_.predict_x0 ? predicted_picture(i, model_output, sample) : predicted_noise(i, model_output, sample);
    const bool disabled = std::ranges::find(config_.disable_corrector, i - 1) != config_.disable_corrector.end();
    if (!last_sample_.empty() && !disabled) update(i - 1, last_order_, last_sample_, &predicted, sample);
    remember(std::move(predicted));
    last_sample_.assign(sample.begin(), sample.end());
    last_order_ = static_cast<int>(predictions().size());
    if (config_.lower_order_final) last_order_ = std::min(last_order_, step_count() - i);
    update(i, last_order_, last_sample_, nullptr, sample);
  }

 protected:
  void lay_out(int steps) override {
    space_steps(steps);
    const bool laid_out = config_.sigma_spacing != SigmaSpacing::of_timesteps;
    const float least = laid_out ? sigmas_.back() : least_train_sigma();
    sigmas_.push_back(config_.final_sigmas_type == FinalSigmas::sigma_min ? least : 0.0F);
    forget_steps();
    last_sample_.clear();
  }

 private:
  // Step i of the given order from `before` into `sample`: the predictor, or, with the prediction at the step's end,
  // the corrector.
  void update(int i, int order, std::span<const float> before, const std::vector<float>* at_end,
              std::span<float> sample) const {
    const Level from = level(i);
    const Level to = level(i + 1);
    const float h = to.lambda - from.lambda;
    const float hh = config_.predict_x0 ? -h : h;
    const float phi_1 = std::expm1(hh);
    const float b_h = config_.solver_type == SolverType::bh1 ? hh : phi_1;

    // Where the earlier predictions lie, in steps; the last is the step's own end.
    std::vector<float> positions;
    for (int n = 1; n < order; ++n) positions.push_back((level(i - n).lambda - from.lambda) / h);
    positions.push_back(1.0F);
    const std::vector<float> rhos = weights(positions, hh, phi_1, b_h, at_end != nullptr);

    const std::vector<float>& m0 = predictions()[0];
    const float scale = config_.predict_x0 ? to.alpha : to.sigma;
    const float keep = config_.predict_x0 ? to.sigma / from.sigma : to.alpha / from.alpha;
    std::vector<float> correction(sample.size(), 0.0F);
    for (std::size_t n = 0; n < rhos.size(); ++n) {
      const bool is_end = n + 1 == positions.size();
      DR_ASSERT(!is_end || at_end != nullptr);  // weights() leaves the end out where there is none
      const std::vector<float>& other = is_end ? *at_end : predictions()[n + 1];
      for (std::size_t k = 0; k < sample.size(); ++k) correction[k] += rhos[n] * ((other[k] - m0[k]) / positions[n]);
    }
    for (std::size_t k = 0; k < sample.size(); ++k) {
      sample[k] = keep * before[k] - scale * phi_1 * m0[k] - scale * b_h * correction[k];
    }
  }

  // Of the differences to the prediction at the step's beginning; the predictor's leave out the step's end.
  static std::vector<float> weights(const std::vector<float>& positions, float hh, float phi_1, float b_h,
                                    bool corrects) {
    const std::size_t order = positions.size();
    const std::size_t unknowns = corrects ? order : order - 1;
    if (unknowns == 0) return {};
    // compat(diffusers): the lowest orders have ½, not the equations' solution.
    if (unknowns == 1) return {0.5F};
    std::vector<std::vector<float>> rows;
    std::vector<float> right;
    float phi_k = phi_1 / hh - 1.0F;
    float factorial = 1.0F;
    for (std::size_t power = 0; power < unknowns; ++power) {
      std::vector<float> row;
      for (std::size_t n = 0; n < unknowns; ++n) row.push_back(std::pow(positions[n], static_cast<float>(power)));
      rows.push_back(std::move(row));
      right.push_back(phi_k * factorial / b_h);
      factorial *= static_cast<float>(power + 2);
      phi_k = phi_k / hh - 1.0F / factorial;
    }
    return solve(std::move(rows), std::move(right));
  }

  std::vector<float> last_sample_;  // before the last step, corrected
  int last_order_ = 0;
};

}  // namespace

std::unique_ptr<Scheduler> make_unipc_multistep(const SchedulerConfig& config) {
  return std::make_unique<UniPcMultistep>(config);
}

}  // namespace darkroom::engine
