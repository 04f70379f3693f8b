// The names that spec/ knows, held against the schedulers that there are.
#include "spec/scheduler_names.h"

#include <algorithm>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/sampling/scheduler.h"
#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {
namespace {

TEST(SchedulerNames, AreThoseOfTheClassesWithTheOptionsThatTheyHave) {
  ASSERT_EQ(known_scheduler_classes().size(), scheduler_classes().size());
  for (std::size_t i = 0; i < scheduler_classes().size(); ++i) {
    const SchedulerClassEntry& known = known_scheduler_classes()[i];
    EXPECT_EQ(known.name, scheduler_classes()[i].name);
    const auto names = scheduler_option_names(known.name);
    const auto has = [&](std::string_view key) { return std::ranges::find(names, key) != names.end(); };
    EXPECT_EQ(known.has_timestep_spacing, has("timestep_spacing")) << known.name;
    EXPECT_EQ(known.has_lu_lambdas, has("use_lu_lambdas")) << known.name;
    for (const char* key : {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"}) {
      EXPECT_EQ(known.has_sigma_spacings, has(key)) << known.name << ", " << key;
    }
  }
}

TEST(SchedulerNames, EachMakesAScheduler) {
  for (const SchedulerEntry& entry : known_schedulers()) {
    for (const ScheduleEntry& schedule : known_schedules()) {
      const auto laid_out = resolve_schedule(schedule.name, entry.class_name);
      if (!laid_out) continue;  // a class without that schedule
      std::vector<SchedulerOption> options = entry.options;
      options.insert(options.end(), laid_out->begin(), laid_out->end());
      const auto scheduler = make_scheduler(entry.class_name, "{}", options);
      ASSERT_TRUE(scheduler) << entry.title << ", " << schedule.title << ": " << scheduler.error().message;
      (*scheduler)->set_timesteps(20);
      EXPECT_GE((*scheduler)->timesteps().size(), 20U);
    }
  }
}

}  // namespace
}  // namespace darkroom::engine
