#include "engine/sampling/scheduler.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/text.h"
#include "engine/sampling/scheduler_config.h"
#include "engine/sampling/solvers.h"

namespace darkroom::engine {

namespace {

// The first timestep that lies behind `fraction` of the schedule, in training timesteps.
double timestep_cutoff(const Scheduler& scheduler, float fraction) {
  const double train = scheduler.num_train_timesteps();
  return std::nearbyint(train - as_written(fraction) * train);
}

}  // namespace

void Scheduler::set_timesteps(int steps) {
  if (steps < 1 || steps > num_train_timesteps_) {
    throw_failure(ErrorCode::invalid_argument, "steps: {} is not from 1 to num_train_timesteps {}", steps,
                  num_train_timesteps_);
  }
  lay_out(steps);
}

void Scheduler::scale_model_input(int, std::span<float>) const {}

Result<std::unique_ptr<Scheduler>> make_scheduler(std::string_view class_name, std::string_view model_config_json,
                                                  std::span<const SchedulerOption> options) {
  const auto config = parse_scheduler_config(class_name, model_config_json, options);
  if (!config) return tl::unexpected(config.error());
  switch (config->scheduler_class) {
    case SchedulerClass::ddim:
      return make_ddim(*config);
    case SchedulerClass::ddpm:
      return make_ddpm(*config);
    case SchedulerClass::deis_multistep:
      return make_deis_multistep(*config);
    case SchedulerClass::dpm_solver_multistep:
      return make_dpm_solver_multistep(*config);
    case SchedulerClass::dpm_solver_singlestep:
      return make_dpm_solver_singlestep(*config);
    case SchedulerClass::euler_ancestral_discrete:
      return make_euler_ancestral_discrete(*config);
    case SchedulerClass::euler_discrete:
      return make_euler_discrete(*config);
    case SchedulerClass::heun_discrete:
      return make_heun_discrete(*config);
    case SchedulerClass::kdpm2_ancestral_discrete:
      return make_kdpm2_ancestral_discrete(*config);
    case SchedulerClass::kdpm2_discrete:
      return make_kdpm2_discrete(*config);
    case SchedulerClass::lcm:
      return make_lcm(*config);
    case SchedulerClass::lms_discrete:
      return make_lms_discrete(*config);
    case SchedulerClass::pndm:
      return make_pndm(*config);
    case SchedulerClass::tcd:
      return make_tcd(*config);
    case SchedulerClass::unipc_multistep:
      return make_unipc_multistep(*config);
  }
  DR_ASSERT(false);
}

int first_step_for_strength(const Scheduler& scheduler, int steps, float strength) {
  const int used = std::min(static_cast<int>(steps * as_written(strength)), steps);
  return std::max(steps - used, 0) * scheduler.order();
}

StepRange steps_between(const Scheduler& scheduler, std::optional<float> start, std::optional<float> end) {
  const std::span<const float> timesteps = scheduler.timesteps();
  const auto passes = static_cast<int>(timesteps.size());
  StepRange range{.first = 0, .last = passes};
  if (start) {
    const double cutoff = timestep_cutoff(scheduler, *start);
    auto left = static_cast<int>(std::ranges::count_if(timesteps, [&](float t) { return t < cutoff; }));
    // compat(diffusers): an even number would begin between the two passes of a step.
    if (scheduler.order() == 2 && left % 2 == 0) ++left;
    range.first = std::max(passes - left, 0);
  }
  if (end) {
    // Counted from where it starts, as the refiner's run knows no earlier timesteps.
    const double cutoff = timestep_cutoff(scheduler, *end);
    const auto from = timesteps.subspan(static_cast<std::size_t>(range.first));
    range.last = range.first + static_cast<int>(std::ranges::count_if(from, [&](float t) { return t >= cutoff; }));
  }
  return range;
}

}  // namespace darkroom::engine
