#include "engine/sampling/scheduler.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/sampling/scheduler_config.h"

namespace darkroom::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kSdxl =
    R"({"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
        "timestep_spacing": "leading", "clip_sample": false, "skip_prk_steps": true})";

std::unique_ptr<Scheduler> scheduler_of(std::string_view class_name, int steps,
                                        const std::vector<SchedulerOption>& options = {}) {
  auto scheduler = value_or_throw(make_scheduler(class_name, kSdxl, options));
  scheduler->set_timesteps(steps);
  return scheduler;
}

class ConstantNoise : public NoiseSource {
 public:
  void fill(std::span<float> batch) override {
    for (float& x : batch) x = 0.5F;
  }
};

// The sample after all passes of a model that always knows the picture: 0.25 everywhere.
std::vector<float> picture_of_a_perfect_model(Scheduler& scheduler) {
  ConstantNoise noise;
  std::vector<float> sample(4, scheduler.init_noise_sigma());
  const std::vector<float> answer(4, 0.25F);
  for (int i = 0; i < static_cast<int>(scheduler.timesteps().size()); ++i) {
    std::vector<float> input = sample;
    scheduler.scale_model_input(i, input);
    scheduler.step(i, answer, sample, noise);
  }
  return sample;
}

class EveryScheduler : public testing::TestWithParam<SchedulerClassName> {};

// Also: sample prediction, in every solver.
TEST_P(EveryScheduler, ArrivesAtThePictureThatTheModelKnows) {
  const auto scheduler = scheduler_of(GetParam().name, 12, {{"prediction_type", "\"sample\""}});
  // Some stop at the first timestep, where σ is 0.03, and the multistep ones extrapolate.
  constexpr float tolerance = 0.05F;
  for (const float x : picture_of_a_perfect_model(*scheduler)) EXPECT_NEAR(x, 0.25F, tolerance);
}

TEST_P(EveryScheduler, ForgetsAnEarlierRun) {
  const auto scheduler = scheduler_of(GetParam().name, 7);
  const std::vector<float> once = picture_of_a_perfect_model(*scheduler);
  scheduler->set_timesteps(7);
  EXPECT_EQ(picture_of_a_perfect_model(*scheduler), once);
}

TEST_P(EveryScheduler, StaysFiniteFromEveryStart) {
  const auto scheduler = scheduler_of(GetParam().name, 9);
  ConstantNoise noise;
  const auto passes = static_cast<int>(scheduler->timesteps().size());
  for (int first = 0; first < passes; first += scheduler->order()) {
    scheduler->set_timesteps(9);
    std::vector<float> sample(4, 1.0F);
    for (int i = first; i < passes; ++i) scheduler->step(i, std::vector<float>(4, 0.1F), sample, noise);
    for (const float x : sample) EXPECT_TRUE(std::isfinite(x)) << "from pass " << first;
  }
}

TEST_P(EveryScheduler, RefusesStepsThatThereAreNot) {
  const auto scheduler = scheduler_of(GetParam().name, 4);
  EXPECT_THROW(scheduler->set_timesteps(0), Failure);
  EXPECT_THROW(scheduler->set_timesteps(1001), Failure);
}

INSTANTIATE_TEST_SUITE_P(Classes, EveryScheduler,
                         testing::ValuesIn(scheduler_classes().begin(), scheduler_classes().end()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(Scheduler, EveryVariantOfTheLogSnrSolversArrivesToo) {
  for (const std::string class_name :
       {"DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"}) {
    const bool unipc = class_name == "UniPCMultistepScheduler";
    const std::vector<std::string> algorithms =
        unipc ? std::vector<std::string>{""}
              : std::vector<std::string>{"dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"};
    const std::vector<std::string> types =
        unipc ? std::vector<std::string>{"bh1", "bh2"} : std::vector<std::string>{"midpoint", "heun"};
    for (const std::string& algorithm : algorithms) {
      for (const std::string& type : types) {
        for (const std::string order : {"1", "2", "3"}) {
          std::vector<SchedulerOption> options = {{"prediction_type", "\"sample\""},
                                                  {"solver_order", order},
                                                  {"solver_type", "\"" + type + "\""},
                                                  {"final_sigmas_type", "\"sigma_min\""}};
          if (!algorithm.empty()) options.emplace_back("algorithm_type", "\"" + algorithm + "\"");
          const auto scheduler = make_scheduler(class_name, kSdxl, options);
          if (!scheduler) {  // sde-dpmsolver has not all of them
            EXPECT_EQ(algorithm, "sde-dpmsolver") << scheduler.error().message;
            continue;
          }
          // That one sums up its fresh noise, which never averages out here.
          const float tolerance = algorithm == "sde-dpmsolver" ? 0.25F : 0.05F;
          for (const int steps : {5, 20}) {
            (*scheduler)->set_timesteps(steps);
            for (const float x : picture_of_a_perfect_model(**scheduler)) {
              EXPECT_NEAR(x, 0.25F, tolerance) << class_name << " " << algorithm << " " << type << " of order " << order
                                               << ", " << steps << " steps";
            }
          }
        }
      }
    }
  }
}

TEST(Scheduler, StrengthOneBeginsAtTheFirstPassAndZeroSkipsAll) {
  const auto euler = scheduler_of("EulerDiscreteScheduler", 10);
  EXPECT_EQ(first_step_for_strength(*euler, 10, 1.0F), 0);
  EXPECT_EQ(first_step_for_strength(*euler, 10, 0.0F), 10);
  EXPECT_EQ(first_step_for_strength(*euler, 10, 0.25F), 8);
}

TEST(Scheduler, StrengthIsTheDecimalThatWasWritten) {
  const auto euler = scheduler_of("EulerDiscreteScheduler", 10);
  EXPECT_EQ(first_step_for_strength(*euler, 10, 0.7F), 3);     // 0.7F is a little less than 0.7
  EXPECT_EQ(first_step_for_strength(*euler, 100, 0.29F), 72);  // compat(diffusers): int(100 * 0.29) is 28 in Python
}

TEST(Scheduler, StrengthCountsPassesOfTwoForEachStep) {
  const auto heun = scheduler_of("HeunDiscreteScheduler", 10);
  EXPECT_EQ(heun->order(), 2);
  EXPECT_EQ(first_step_for_strength(*heun, 10, 0.6F), 8);
}

TEST(Scheduler, BaseAndRefinerShareTheScheduleWithoutGapOrOverlap) {
  const auto scheduler = scheduler_of("EulerDiscreteScheduler", 25);  // 961 921 … 241 201 161 …
  const StepRange base = steps_between(*scheduler, std::nullopt, 0.8F);
  const StepRange refiner = steps_between(*scheduler, 0.8F, std::nullopt);
  EXPECT_EQ(base.first, 0);
  EXPECT_EQ(base.last, 20);
  EXPECT_EQ(refiner.first, base.last);
  EXPECT_EQ(refiner.last, 25);
}

TEST(Scheduler, TheWholeScheduleIsBetweenNothingAndNothing) {
  const auto scheduler = scheduler_of("EulerDiscreteScheduler", 10);
  const StepRange all = steps_between(*scheduler, std::nullopt, std::nullopt);
  EXPECT_EQ(all.first, 0);
  EXPECT_EQ(all.last, 10);
}

TEST(Scheduler, ARefinerOfOrderTwoBeginsAtTheStartOfAStep) {
  const auto heun = scheduler_of("HeunDiscreteScheduler", 25);
  EXPECT_EQ(steps_between(*heun, 0.8F, std::nullopt).first % 2, 0);
}

TEST(Scheduler, AMiddlePieceHasBothEnds) {
  const auto scheduler = scheduler_of("EulerDiscreteScheduler", 10);  // 901 801 … 1
  const StepRange middle = steps_between(*scheduler, 0.3F, 0.7F);
  EXPECT_EQ(middle.first, 3);
  EXPECT_EQ(middle.last, 7);
}

TEST(Scheduler, ZeroTerminalSnrBeginsAtPureNoise) {
  const std::vector<SchedulerOption> options = {{"rescale_betas_zero_snr", "true"},
                                                {"timestep_spacing", "\"trailing\""},
                                                {"prediction_type", "\"v_prediction\""}};
  const auto ddim = scheduler_of("DDIMScheduler", 4, options);
  EXPECT_THAT(ddim->timesteps(), ElementsAre(999.0F, 749.0F, 499.0F, 249.0F));
  const std::vector<float> picture(4, 3.0F);
  const std::vector<float> noise(4, -0.5F);
  std::vector<float> noised(4);
  ddim->add_noise(picture, noise, 0, noised);
  EXPECT_THAT(noised, ElementsAre(-0.5F, -0.5F, -0.5F, -0.5F));
  // Others divide by ᾱ, and keep 2⁻²⁴ of it: σ = 4096.
  EXPECT_NEAR(scheduler_of("EulerDiscreteScheduler", 4, options)->init_noise_sigma(), 4096.0F, 0.01F);
}

TEST(Scheduler, NoiseIsAddedAtTheLevelOfThePass) {
  const auto euler = scheduler_of("EulerDiscreteScheduler", 10);
  const std::vector<float> picture(2, 1.0F);
  const std::vector<float> noise(2, 1.0F);
  std::vector<float> noised(2);
  euler->add_noise(picture, noise, 4, noised);
  EXPECT_FLOAT_EQ(noised[0], 1.0F + euler->sigmas()[4]);
}

TEST(Scheduler, DistilledModelsHaveNoMoreStepsThanTheirOriginal) {
  const auto lcm = scheduler_of("LCMScheduler", 4);
  try {
    lcm->set_timesteps(60);
    FAIL() << "60 steps of 50";
  } catch (const Failure& failure) {
    EXPECT_THAT(failure.error().message, HasSubstr("steps: 60 is more than original_inference_steps 50"));
  }
}

TEST(Scheduler, RungeKuttaOfPndmTakesFourPassesForEachOfThreeSteps) {
  const auto pndm = scheduler_of("PNDMScheduler", 5, {{"skip_prk_steps", "false"}});
  // As diffusers lays out 801 601 401 201 1.
  EXPECT_THAT(pndm->timesteps(), ElementsAre(801, 701, 701, 601, 601, 501, 501, 401, 401, 301, 301, 201, 201, 1));
}

}  // namespace
}  // namespace darkroom::engine
