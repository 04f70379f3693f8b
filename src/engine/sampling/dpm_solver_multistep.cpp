// DPM-Solver and DPM-Solver++ in their multistep form, deterministic and stochastic ("DPM++ 2M", "DPM++ 2M SDE").
// Twin: DPMSolverMultistepScheduler.
#include "engine/sampling/dpm_solver.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

class DpmSolverMultistep : public DpmSolver {
 public:
  explicit DpmSolverMultistep(const SchedulerConfig& config) : DpmSolver(config) {}

  void step(int i, std::span<const float> model_output, std::span<float> sample, NoiseSource& noise) override {
    remember(prediction(i, model_output, sample));
    const bool ends_with_euler = config_.euler_at_final || config_.final_sigmas_type == FinalSigmas::zero;
    const int order = multistep_order(i, ends_with_euler);
    const Level to = level(i + 1);
    const Level s0 = level(i);
    const DpmUpdate update = dpm_update(config_.algorithm_type, s0, to);
    const std::vector<float> before(sample.begin(), sample.end());
    const std::span<const float> m0 = predictions()[0];
    if (order == 1) {
      apply(update, before, {{update.d0, m0}}, sample, noise);
      return;
    }
    const float h = to.lambda - s0.lambda;
    const Level s1 = level(i - 1);
    const float r0 = (s0.lambda - s1.lambda) / h;
    const std::vector<float> newer = scaled_difference(1.0F / r0, m0, predictions()[1]);
    if (order == 2) {
      apply(update, before, {{update.d0, m0}, {update.d1(config_.solver_type), newer}}, sample, noise);
      return;
    }
    const float r1 = (s1.lambda - level(i - 2).lambda) / h;
    const std::vector<float> older = scaled_difference(1.0F / r1, predictions()[1], predictions()[2]);
    std::vector<float> d1 = scaled_difference(r0 / (r0 + r1), newer, older);
    for (std::size_t k = 0; k < d1.size(); ++k) d1[k] += newer[k];
    const std::vector<float> d2 = scaled_difference(1.0F / (r0 + r1), newer, older);
    apply(update, before, {{update.d0, m0}, {update.d1_heun, d1}, {update.d2, d2}}, sample, noise);
  }

 protected:
  void lay_out(int steps) override { lay_out_sigmas(steps); }
};

}  // namespace

std::unique_ptr<Scheduler> make_dpm_solver_multistep(const SchedulerConfig& config) {
  return std::make_unique<DpmSolverMultistep>(config);
}

}  // namespace darkroom::engine
