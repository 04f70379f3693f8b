// T14: the sampler in sampler_name or sampler_index, with the schedule in its name or in `scheduler`.
#include <algorithm>

#include "base/text.h"
#include "service/api/sdapi_inside.h"
#include "spec/scheduler_names.h"

namespace darkroom {
namespace {

constexpr const char* kDefaultSampler = "Euler";  // compat(webui): the API's, not the page's

// Schedules that webui has and that are not here: named, so that who picks one from its list is not refused.
bool is_elsewhere(std::string_view schedule) {
  static constexpr std::string_view kElsewhere[] = {"kl optimal",       "kl_optimal",      "align your steps",
                                                    "align_your_steps", "polyexponential", "turbo"};
  const std::string lower = to_lower(schedule);
  return std::ranges::any_of(kElsewhere, [&](std::string_view name) { return lower.starts_with(name); });
}

}  // namespace

void read_sampler(SdapiDraft& draft, const TolerantReader& in) {
  std::string name = kDefaultSampler;
  if (!in.text("sampler_name", name)) in.text("sampler_index", name);
  const auto sampler = resolve_scheduler(name);
  if (!sampler) {
    // The words that clients look for; what is near comes after them.
    draft.complaints.push_back({"", "Sampler not found"});
    ++draft.not_found;
    return;
  }
  draft.sampler_name = sampler->title;
  draft.schedule = sampler->schedule.empty() ? "Automatic" : sampler->schedule;
  draft.spec.scheduler = {.name = sampler->class_name, .options = sampler->options};

  std::string schedule;
  in.text("scheduler", schedule);
  // compat(webui): a schedule in the sampler's name goes before.
  if (schedule.empty() || !sampler->schedule.empty()) return;
  const ScheduleEntry* entry = find_schedule(schedule);
  const auto options = resolve_schedule(schedule, sampler->class_name);
  if (options) {
    draft.spec.scheduler.options.insert(draft.spec.scheduler.options.end(), options->begin(), options->end());
    draft.schedule = entry->title;
  } else if (entry != nullptr || is_elsewhere(schedule)) {
    draft.warn(fmt::format("scheduler \"{}\" is not there for {}; its own schedule is used", schedule, sampler->title));
  } else {
    in.complain("scheduler", options.error().message);
  }
}

}  // namespace darkroom
