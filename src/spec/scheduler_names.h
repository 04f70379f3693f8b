// The names that people know schedulers by: diffusers' classes, webui's titles, ComfyUI's and k-diffusion's.
// Case, spaces, dashes and underscores do not matter. A name may end in a schedule: "DPM++ 2M Karras".
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "spec/generation_spec.h"

namespace darkroom {

struct ResolvedScheduler {
  std::string class_name;                // "DPMSolverMultistepScheduler"
  std::vector<SchedulerOption> options;  // what the name means beyond the class
  std::string title;                     // without the schedule, as webui lists it; else the class
  std::string schedule;                  // the title of the schedule that the name ends in; "": none
};

// Error invalid_argument names what is near, and all that is known.
Result<ResolvedScheduler> resolve_scheduler(std::string_view name);

// The options that a schedule's name ("Karras", "SGM Uniform", …; "Automatic": none) means for a class. Error
// invalid_argument as above, and where the class cannot be laid out so.
Result<std::vector<SchedulerOption>> resolve_schedule(std::string_view name, std::string_view class_name);

// The options that a schedule's name may stand for, of which a class has some.
struct SchedulerClassEntry {
  std::string_view name;  // "EulerDiscreteScheduler"
  bool has_timestep_spacing = true;
  bool has_sigma_spacings = true;  // use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas
  bool has_lu_lambdas = false;
};
// All classes that the engine has, in alphabetical order.
std::span<const SchedulerClassEntry> known_scheduler_classes();

struct SchedulerEntry {
  std::string_view title;       // as webui lists it: "DPM++ 2M SDE"
  std::string_view class_name;  // diffusers'
  std::vector<std::string_view> aliases;
  std::vector<SchedulerOption> options;
};
// Several entries may share a class.
std::span<const SchedulerEntry> known_schedulers();

struct ScheduleEntry {
  std::string_view title;  // "SGM Uniform"
  std::string_view name;   // "sgm_uniform"
  std::vector<std::string_view> aliases;
  std::vector<SchedulerOption> options;
};
std::span<const ScheduleEntry> known_schedules();
// By title, name or alias; null: there is none.
const ScheduleEntry* find_schedule(std::string_view name);

}  // namespace darkroom
