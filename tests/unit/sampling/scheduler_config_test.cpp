#include "engine/sampling/scheduler_config.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// What SDXL base brings along.
constexpr std::string_view kSdxl = R"({
  "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0",
  "beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false,
  "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0,
  "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "timestep_spacing": "leading",
  "trained_betas": null, "use_karras_sigmas": false})";

using Options = std::vector<SchedulerOption>;

SchedulerConfig config_of(std::string_view class_name, std::string_view model, const Options& options = {}) {
  return value_or_throw(parse_scheduler_config(class_name, model, options));
}

std::string error_of(std::string_view class_name, std::string_view model, const Options& options = {}) {
  const auto config = parse_scheduler_config(class_name, model, options);
  return config ? "no error" : config.error().message;
}

TEST(SchedulerConfig, TakesWhatTheClassKnowsFromTheModel) {
  const SchedulerConfig config = config_of("DPMSolverMultistepScheduler", kSdxl);
  EXPECT_EQ(config.scheduler_class, SchedulerClass::dpm_solver_multistep);
  EXPECT_EQ(config.beta_schedule, BetaSchedule::scaled_linear);
  EXPECT_EQ(config.timestep_spacing, TimestepSpacing::leading);
  EXPECT_EQ(config.steps_offset, 1);
  EXPECT_EQ(config.sigma_spacing, SigmaSpacing::of_timesteps);
}

TEST(SchedulerConfig, HasTheDefaultsOfItsClass) {
  EXPECT_EQ(config_of("EulerDiscreteScheduler", "").timestep_spacing, TimestepSpacing::linspace);
  EXPECT_EQ(config_of("DDIMScheduler", "{}").timestep_spacing, TimestepSpacing::leading);
  EXPECT_EQ(config_of("LCMScheduler", "").beta_schedule, BetaSchedule::scaled_linear);
  EXPECT_EQ(config_of("UniPCMultistepScheduler", "").solver_type, SolverType::bh2);
  EXPECT_TRUE(config_of("DDIMScheduler", "").clip_sample);
  EXPECT_FALSE(config_of("HeunDiscreteScheduler", "").clip_sample);
}

TEST(SchedulerConfig, AnOptionGoesOverTheModel) {
  const SchedulerConfig config =
      config_of("EulerDiscreteScheduler", kSdxl, {{"timestep_spacing", "\"trailing\""}, {"use_karras_sigmas", "true"}});
  EXPECT_EQ(config.timestep_spacing, TimestepSpacing::trailing);
  EXPECT_EQ(config.sigma_spacing, SigmaSpacing::karras);
}

TEST(SchedulerConfig, ASpacingOfTheRequestReplacesTheModels) {
  const SchedulerConfig config =
      config_of("EulerDiscreteScheduler", R"({"use_karras_sigmas": true})", {{"use_exponential_sigmas", "true"}});
  EXPECT_EQ(config.sigma_spacing, SigmaSpacing::exponential);
}

TEST(SchedulerConfig, RefusesTwoSpacingsAtOnce) {
  EXPECT_THAT(error_of("EulerDiscreteScheduler", "", {{"use_karras_sigmas", "true"}, {"use_beta_sigmas", "true"}}),
              HasSubstr("use_beta_sigmas: true cannot go with another"));
}

TEST(SchedulerConfig, NamesAllMistakesAtOnce) {
  const std::string error = error_of("EulerDiscreteScheduler", kSdxl,
                                     {{"timestep_spacing", "\"zigzag\""},
                                      {"steps_offset", "-1"},
                                      {"use_karras_sigmas", "1"},
                                      {"beta_end", "2"},
                                      {"solver_order", "2"},
                                      {"prediction_type", "epsilon"}});
  EXPECT_THAT(error, AllOf(HasSubstr(R"(timestep_spacing: "zigzag" is not one of leading, trailing, linspace)"),
                           HasSubstr("steps_offset: -1 is not a whole number from 0 to 99999"),
                           HasSubstr("use_karras_sigmas: 1 is neither true nor false"),
                           HasSubstr("beta_end: 2 is not a number between 0 and 1"),
                           HasSubstr("solver_order: unknown; known to EulerDiscreteScheduler are"),
                           HasSubstr("prediction_type: epsilon is not JSON; a word needs quotes")));
}

TEST(SchedulerConfig, SaysWhoseValueIsWrong) {
  EXPECT_THAT(error_of("DDIMScheduler", R"({"beta_schedule": "laplace"})"),
              HasSubstr(R"(the model's scheduler_config.json, beta_schedule: "laplace" is not one of linear)"));
  EXPECT_THAT(error_of("DDIMScheduler", "[]"), HasSubstr("scheduler_config.json is not a JSON object"));
}

TEST(SchedulerConfig, NamesTheClassesForAnUnknownOne) {
  EXPECT_THAT(error_of("EulerScheduler", "", {{"colour", "1"}}),
              AllOf(HasSubstr("scheduler EulerScheduler: is not one of DDIMScheduler, "), HasSubstr("UniPCMultistep"),
                    HasSubstr("colour: unknown")));
}

TEST(SchedulerConfig, RefusesAnOptionGivenTwice) {
  EXPECT_THAT(error_of("DDIMScheduler", "", {{"eta", "1"}, {"eta", "0"}}), HasSubstr("eta: given twice"));
}

TEST(SchedulerConfig, RefusesWhatCannotEndAtZero) {
  EXPECT_THAT(error_of("DPMSolverMultistepScheduler", "", {{"algorithm_type", "\"dpmsolver\""}}),
              HasSubstr("final_sigmas_type"));
  EXPECT_EQ(error_of("DPMSolverMultistepScheduler", "",
                     {{"algorithm_type", "\"dpmsolver\""}, {"final_sigmas_type", "\"sigma_min\""}}),
            "no error");
  EXPECT_THAT(error_of("UniPCMultistepScheduler", "", {{"lower_order_final", "false"}}),
              HasSubstr("lower_order_final"));
}

TEST(SchedulerConfig, PassesOverAnotherSolversTypesInTheModelButNotInARequest) {
  EXPECT_EQ(config_of("UniPCMultistepScheduler", R"({"solver_type": "midpoint"})").solver_type, SolverType::bh2);
  EXPECT_THAT(error_of("UniPCMultistepScheduler", "", {{"solver_type", "\"midpoint\""}}),
              HasSubstr("is not one of bh1, bh2"));
}

TEST(SchedulerConfig, ReadsPythonsInfinities) {
  const auto limit =
      config_of("DPMSolverMultistepScheduler", R"({"lambda_min_clipped": -Infinity})").lambda_min_clipped;
  EXPECT_LT(limit, -1e300);
  EXPECT_EQ(config_of("DPMSolverMultistepScheduler", R"({"lambda_min_clipped": -5.1})").lambda_min_clipped, -5.1);
}

TEST(SchedulerConfig, TrainedBetasMustBeOneForEachTimestep) {
  EXPECT_THAT(error_of("DDIMScheduler", R"({"trained_betas": [0.1, 0.2]})"),
              HasSubstr("trained_betas: 2 values for num_train_timesteps 1000"));
  const SchedulerConfig config =
      config_of("DDIMScheduler", R"({"trained_betas": [0.1, 0.2], "num_train_timesteps": 2})");
  EXPECT_EQ(config.trained_betas, (std::vector<double>{0.1, 0.2}));
}

}  // namespace
}  // namespace darkroom::engine
