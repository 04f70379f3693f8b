#include "engine/pipeline/schedule.h"

#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "spec/scheduler_names.h"

namespace darkroom::engine {

ChosenScheduler choose_scheduler(const SdxlModel& model, const SchedulerChoice& choice) {
  const std::string& config = model.checkpoint.scheduler_config;
  ResolvedScheduler resolved;
  if (choice.name.empty()) {
    const auto json = nlohmann::json::parse(config, nullptr, /*allow_exceptions=*/false);
    resolved.class_name =
        json.is_object() ? json.value("_class_name", "EulerDiscreteScheduler") : "EulerDiscreteScheduler";
  } else {
    resolved = value_or_throw(resolve_scheduler(choice.name));
  }
  // What is asked for by key goes over what a name like "Karras" means.
  std::vector<SchedulerOption> options = std::move(resolved.options);
  options.insert(options.end(), choice.options.begin(), choice.options.end());
  return {.name = resolved.class_name,
          .scheduler = value_or_throw(make_scheduler(resolved.class_name, config, options))};
}

void check_steps(const SdxlModel& model, const SchedulerChoice& choice, int steps, std::string_view place) {
  const ChosenScheduler chosen = choose_scheduler(model, choice);
  try {
    chosen.scheduler->set_timesteps(steps);
  } catch (const Failure& failure) {
    throw Failure(Error{failure.error().code, fmt::format("{}{}", place, failure.error().message)});
  }
}

}  // namespace darkroom::engine
