// Which scheduler a run of a model goes by.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/pipeline/sdxl_model.h"
#include "engine/sampling/scheduler.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

struct ChosenScheduler {
  std::string name;  // diffusers' class
  std::unique_ptr<Scheduler> scheduler;
};

// The scheduler asked for, over the model's own configuration; the model's own where none is asked for. Throws Failure
// naming what cannot be chosen.
ChosenScheduler choose_scheduler(const SdxlModel& model, const SchedulerChoice& choice);

// Throws Failure where the schedule cannot have so many steps; `place` is where the request says how many.
void check_steps(const SdxlModel& model, const SchedulerChoice& choice, int steps, std::string_view place);

}  // namespace darkroom::engine
