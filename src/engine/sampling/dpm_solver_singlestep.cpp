// DPM-Solver and DPM-Solver++ in their singlestep form: groups of passes of order 1, 2, 3, all from the group's first
// sample ("DPM++ 2S"). Twin: DPMSolverSinglestepScheduler.
#include <algorithm>

#include "engine/sampling/dpm_solver.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class DpmSolverSinglestep : public DpmSolver {
 public:
  explicit DpmSolverSinglestep(const SchedulerConfig& config) : DpmSolver(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    remember(prediction(i, model_output, sample));
    // A later start (image to image) may fall into the middle of a group; it begins with order 1 all the same.
    const int order =
        std::min(orders_[static_cast<std::size_t>(i)], static_cast<int>(predictions().size()));
    if (order == 1) group_start_.assign(sample.begin(), sample.end());
    const Level to = level(i + 1);
    const Level from = level(i - order + 1);
    const DpmUpdate update = dpm_update(config_.algorithm_type, from, to);
    const std::span<const float> first = predictions()[static_cast<std::size_t>(order - 1)];
    if (order == 1) {
      apply(update, group_start_, {{update.d0, first}}, sample, noise);
      return;
    }
    const float h = to.lambda - from.lambda;
    const float r0 = (level(i).lambda - from.lambda) / h;
    const std::vector<float> newest = scaled_difference(1.0F / r0, predictions()[0], first);
    if (order == 2) {
      apply(update, group_start_, {{update.d0, first}, {update.d1(config_.solver_type), newest}}, sample, noise);
      return;
    }
    if (config_.solver_type == SolverType::midpoint) {
      apply(update, group_start_, {{update.d0, first}, {update.d1_heun, newest}}, sample, noise);
      return;
    }
    const float r1 = (level(i - 1).lambda - from.lambda) / h;
    const std::vector<float> middle = scaled_difference(1.0F / r1, predictions()[1], first);
    std::vector<float> d1(sample.size());
    for (std::size_t k = 0; k < d1.size(); ++k) d1[k] = (r0 * middle[k] - r1 * newest[k]) / (r0 - r1);
    const std::vector<float> d2 = scaled_difference(2.0F / (r0 - r1), newest, middle);
    apply(update, group_start_, {{update.d0, first}, {update.d1_heun, d1}, {update.d2, d2}}, sample, noise);
  }

 protected:
  void lay_out(int steps) override {
    lay_out_sigmas(steps);
    orders_ = orders_of(steps);
    group_start_.clear();
  }

 private:
  // The order of every pass: 1 2 3 1 2 3 …, ending low.
  std::vector<int> orders_of(int steps) const {
    const int order = config_.solver_order;
    // compat(diffusers): these cannot do without, whatever the configuration says.
    const bool ends_low =
        config_.lower_order_final || steps % order != 0 || config_.final_sigmas_type == FinalSigmas::zero;
    std::vector<int> orders;
    for (int i = 0; i < steps; ++i) orders.push_back(i % order + 1);
    if (ends_low && steps % order == 0) orders.back() = 1;
    return orders;
  }

  std::vector<int> orders_;
  std::vector<float> group_start_;  // sample before the pass of order 1
};

}  // namespace

std::unique_ptr<Scheduler> make_dpm_solver_singlestep(const SchedulerConfig& config) {
  return std::make_unique<DpmSolverSinglestep>(config);
}

}  // namespace darkroom::engine
