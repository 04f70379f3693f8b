#include "engine/sampling/noise_schedule.h"

#include <cmath>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pointwise;

SchedulerConfig sdxl() {
  SchedulerConfig config;
  config.beta_start = 0.00085;
  config.beta_end = 0.012;
  config.beta_schedule = BetaSchedule::scaled_linear;
  return config;
}

TEST(NoiseSchedule, BeginsAndEndsAtTheConfiguredBetas) {
  for (const BetaSchedule kind : {BetaSchedule::linear, BetaSchedule::scaled_linear}) {
    SchedulerConfig config = sdxl();
    config.beta_schedule = kind;
    const NoiseSchedule schedule = noise_schedule(config);
    ASSERT_EQ(schedule.betas.size(), 1000U);
    EXPECT_NEAR(schedule.betas.front(), 0.00085, 1e-8);
    EXPECT_NEAR(schedule.betas.back(), 0.012, 1e-8);
  }
}

TEST(NoiseSchedule, CosineIsCapped) {
  SchedulerConfig config = sdxl();
  config.beta_schedule = BetaSchedule::squaredcos_cap_v2;
  const NoiseSchedule schedule = noise_schedule(config);
  EXPECT_NEAR(schedule.betas.front(), 4.128e-5, 1e-7);  // Nichol and Dhariwal 2021, eq. 17 at t = 1/1000
  EXPECT_FLOAT_EQ(schedule.betas.back(), 0.999F);
}

TEST(NoiseSchedule, TrainedBetasGoInsteadOfAFormula) {
  SchedulerConfig config = sdxl();
  config.num_train_timesteps = 2;
  config.trained_betas = {0.5, 0.25};
  EXPECT_THAT(noise_schedule(config).alphas_cumprod, ElementsAre(0.5F, 0.375F));
}

TEST(NoiseSchedule, ZeroTerminalSnrKeepsTheFirstAlphaAndEndsAtNone) {
  SchedulerConfig config = sdxl();
  const float first = noise_schedule(config).alphas_cumprod.front();
  config.rescale_betas_zero_snr = true;
  NoiseSchedule schedule = noise_schedule(config);
  EXPECT_NEAR(schedule.alphas_cumprod.front(), first, 1e-6);
  EXPECT_EQ(schedule.alphas_cumprod.back(), 0.0F);
  keep_terminal_alpha(config, schedule);
  EXPECT_EQ(schedule.alphas_cumprod.back(), 0x1p-24F);
}

TEST(NoiseSchedule, SigmaAndTimestepAreInverse) {
  const std::vector<float> sigmas = sigmas_of(noise_schedule(sdxl()).alphas_cumprod);
  const std::vector<float> logs = logs_of(sigmas);
  for (const std::size_t t : {0U, 1U, 500U, 998U, 999U}) {
    EXPECT_NEAR(sigma_to_t(sigmas[t], logs), static_cast<double>(t), 1e-3) << t;
  }
  EXPECT_EQ(sigma_to_t(1e-6, logs), 0.0);
  EXPECT_EQ(sigma_to_t(1e6, logs), 999.0);
}

TEST(NoiseSchedule, LaidOutSigmasRunFromTheLargestToTheSmallest) {
  const SigmaRange range{.min = 0.03, .max = 14.6};
  for (const auto& layout : {karras_sigmas, exponential_sigmas, beta_sigmas}) {
    const std::vector<double> sigmas = layout(range, 20);
    EXPECT_NEAR(sigmas.front(), range.max, 1e-9);
    EXPECT_NEAR(sigmas.back(), range.min, 1e-9);
    for (std::size_t i = 1; i < sigmas.size(); ++i) EXPECT_LT(sigmas[i], sigmas[i - 1]);
    EXPECT_EQ(layout(range, 1).size(), 1U);
  }
}

// The definition itself, integrated: p = ∫₀ˣ (t·(1−t))^(−0.4) dt / B(0.6, 0.6), with t = u⁵ against the singularity at
// 0.
double beta_share_below(double x) {
  constexpr int pieces = 200000;
  const double end = std::pow(x, 0.2);
  double sum = 0.0;
  for (int i = 0; i < pieces; ++i) {
    const double u = end * (i + 0.5) / pieces;
    const double t = std::pow(u, 5);
    sum += std::pow(t * (1.0 - t), -0.4) * 5.0 * std::pow(u, 4);
  }
  return sum * end / pieces * std::tgamma(1.2) / (std::tgamma(0.6) * std::tgamma(0.6));
}

TEST(NoiseSchedule, BetaSigmasAreQuantilesOfTheBetaDistribution) {
  const std::vector<double> sigmas = beta_sigmas({.min = 0.0, .max = 1.0}, 11);  // shares 1, 0.9, … 0
  for (const std::size_t i : {5U, 6U, 8U, 9U}) {
    EXPECT_NEAR(beta_share_below(sigmas[i]), 1.0 - 0.1 * static_cast<double>(i), 1e-6);
  }
  EXPECT_NEAR(sigmas[2], 1.0 - sigmas[8], 1e-12);
}

TEST(NoiseSchedule, EveryNumberOfStepsHasThatManyTimesteps) {
  for (const TimestepSpacing spacing :
       {TimestepSpacing::linspace, TimestepSpacing::leading, TimestepSpacing::trailing}) {
    SchedulerConfig config = sdxl();
    config.timestep_spacing = spacing;
    for (int steps = 1; steps <= 150; ++steps) {
      const std::vector<double> timesteps = divide_schedule(config, steps);
      ASSERT_EQ(timesteps.size(), static_cast<std::size_t>(steps)) << static_cast<int>(spacing);
      ASSERT_GE(timesteps.back(), 0.0) << steps;
    }
  }
}

TEST(NoiseSchedule, StepsAreSpacedAsInTheTableOfLinAndOthers) {
  SchedulerConfig config = sdxl();
  config.steps_offset = 1;
  config.timestep_spacing = TimestepSpacing::leading;
  EXPECT_THAT(divide_schedule(config, 4), ElementsAre(751, 501, 251, 1));
  EXPECT_THAT(divide_schedule_inside(config, 4, 1000), ElementsAre(801, 601, 401, 201));
  config.timestep_spacing = TimestepSpacing::trailing;
  EXPECT_THAT(divide_schedule(config, 4), ElementsAre(999, 749, 499, 249));
  EXPECT_EQ(divide_schedule(config, 7).size(), 7U);
  config.timestep_spacing = TimestepSpacing::linspace;
  EXPECT_THAT(divide_schedule(config, 4), Pointwise(DoubleNear(1e-4), {999.0, 666.0, 333.0, 0.0}));
}

}  // namespace
}  // namespace darkroom::engine
