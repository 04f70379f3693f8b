#include "spec/scheduler_names.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string class_of(std::string_view name) {
  const auto resolved = resolve_scheduler(name);
  return resolved ? resolved->class_name : resolved.error().message;
}

TEST(SchedulerNames, KnowsTheShortNamesOfTheSpecification) {
  EXPECT_EQ(class_of("DPMSolverMultistep"), "DPMSolverMultistepScheduler");
  EXPECT_EQ(class_of("DDIM"), "DDIMScheduler");
  EXPECT_EQ(class_of("EulerDiscrete"), "EulerDiscreteScheduler");
  EXPECT_EQ(class_of("EulerAncestral"), "EulerAncestralDiscreteScheduler");
  EXPECT_EQ(class_of("DPMSolverSinglestep"), "DPMSolverSinglestepScheduler");
  EXPECT_EQ(class_of("KDPM2Discrete"), "KDPM2DiscreteScheduler");
  EXPECT_EQ(class_of("KDPM2Ancestral"), "KDPM2AncestralDiscreteScheduler");
  EXPECT_EQ(class_of("HeunDiscrete"), "HeunDiscreteScheduler");
  EXPECT_EQ(class_of("LMSDiscrete"), "LMSDiscreteScheduler");
  EXPECT_EQ(class_of("UniPCMultistep"), "UniPCMultistepScheduler");
}

TEST(SchedulerNames, KnowsEveryClassByItsOwnNameWithoutOptions) {
  for (const SchedulerClassEntry& one : known_scheduler_classes()) {
    const auto resolved = resolve_scheduler(one.name);
    ASSERT_TRUE(resolved) << resolved.error().message;
    EXPECT_EQ(resolved->class_name, one.name);
    EXPECT_THAT(resolved->options, IsEmpty());
  }
}

TEST(SchedulerNames, KnowsTheNamesOfOtherTools) {
  EXPECT_EQ(class_of("Euler a"), "EulerAncestralDiscreteScheduler");
  EXPECT_EQ(class_of("euler_ancestral"), "EulerAncestralDiscreteScheduler");
  EXPECT_EQ(class_of("Euler"), "EulerDiscreteScheduler");
  EXPECT_EQ(class_of("dpmpp_2m"), "DPMSolverMultistepScheduler");
  EXPECT_EQ(class_of("DPM2"), "KDPM2DiscreteScheduler");
  EXPECT_EQ(class_of("DPM2 a"), "KDPM2AncestralDiscreteScheduler");
  EXPECT_EQ(class_of("PLMS"), "PNDMScheduler");
  EXPECT_EQ(class_of("LCM"), "LCMScheduler");
  EXPECT_EQ(class_of("tcd"), "TCDScheduler");
  EXPECT_EQ(class_of("  heun "), "HeunDiscreteScheduler");
}

TEST(SchedulerNames, SplitsAScheduleFromTheEndOfAName) {
  const auto resolved = resolve_scheduler("dpm++ 2m sde KARRAS");
  ASSERT_TRUE(resolved) << resolved.error().message;
  EXPECT_EQ(resolved->class_name, "DPMSolverMultistepScheduler");
  EXPECT_THAT(resolved->options, Contains(SchedulerOption{"algorithm_type", "\"sde-dpmsolver++\""}));
  EXPECT_THAT(resolved->options, Contains(SchedulerOption{"use_karras_sigmas", "true"}));
  EXPECT_EQ(resolved->title, "DPM++ 2M SDE");
  EXPECT_EQ(resolved->schedule, "Karras");
  EXPECT_EQ(resolve_scheduler("ddim")->schedule, "");
  EXPECT_EQ(class_of("LMS Karras"), "LMSDiscreteScheduler");
  EXPECT_EQ(class_of("k_dpmpp_2m_ka"), "DPMSolverMultistepScheduler");
}

TEST(SchedulerNames, NamesWhatIsNearAnUnknownScheduler) {
  const auto resolved = resolve_scheduler("DPM++ 2N");
  ASSERT_FALSE(resolved);
  EXPECT_EQ(resolved.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(resolved.error().message, HasSubstr("\"DPM++ 2N\""));
  EXPECT_THAT(resolved.error().message, HasSubstr("near: DPM++ 2M"));
  EXPECT_THAT(resolved.error().message, HasSubstr("HeunDiscreteScheduler"));
  EXPECT_THAT(class_of("something else altogether"), Not(HasSubstr("near:")));
}

TEST(SchedulerNames, RefusesAScheduleThatTheClassDoesNotHave) {
  EXPECT_THAT(class_of("DDIM Karras"), HasSubstr("DDIMScheduler cannot be laid out so; it has no use_karras_sigmas"));
  const auto unknown = resolve_schedule("karas", "EulerDiscreteScheduler");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("near: Karras"));
  EXPECT_THAT(unknown.error().message, HasSubstr("SGM Uniform"));
}

TEST(SchedulerNames, AutomaticLeavesTheScheduleToTheModel) {
  const auto options = resolve_schedule("Automatic", "EulerDiscreteScheduler");
  ASSERT_TRUE(options);
  EXPECT_THAT(*options, IsEmpty());
}

TEST(SchedulerNames, AScheduleWithoutSigmasOfItsOwnTurnsTheModelsOff) {
  const auto options = resolve_schedule("SGM Uniform", "EulerDiscreteScheduler");
  ASSERT_TRUE(options);
  EXPECT_THAT(*options, Contains(SchedulerOption{"timestep_spacing", "\"trailing\""}));
  EXPECT_THAT(*options, Contains(SchedulerOption{"use_karras_sigmas", "false"}));
}

}  // namespace
}  // namespace darkroom
