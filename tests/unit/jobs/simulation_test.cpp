// Shares and warm models as the store and the rule make them together, on a clock that jumps.
#include "tests/support/simulation.h"

#include <gtest/gtest.h>

#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

TEST(SchedulerSimulation, AfterAFloodKeysGetTheirWeights) {
  const auto shares = simulate_flood(600, 150, fast_directory("simulation"));
  ASSERT_TRUE(shares) << shares.error().message;
  EXPECT_EQ(*shares, (std::map<std::string, int>{{"flood", 30}, {"one", 30}, {"three", 90}}));
}

TEST(SchedulerSimulation, AKeyBackFromAPauseGetsHalfAndNotAll) {
  for (const Meanwhile meanwhile : {Meanwhile::queued, Meanwhile::running, Meanwhile::idle}) {
    const auto shares = simulate_pause(meanwhile, fast_directory("simulation"));
    ASSERT_TRUE(shares) << shares.error().message;
    EXPECT_NEAR(shares->at("back"), 50, 1) << static_cast<int>(meanwhile);
  }
}

// First in, first out needs 0.75 loads a job here, and the queue grows without end.
TEST(SchedulerSimulation, WarmModelsAreUsedAndNobodyStarves) {
  struct Bound {
    double load, loads_per_job, mean_wait;
  };
  for (const Bound& bound :
       {Bound{0.3, 0.05, 5.0}, Bound{0.6, 0.05, 10.0}, Bound{0.8, 0.08, 30.0}, Bound{0.9, 0.08, 80.0}}) {
    WarmModelsCase asked;
    asked.load = bound.load;
    asked.jobs = 4000;
    const Result<WarmModelsResult> result = simulate_warm_models(asked, fast_directory("simulation"));
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->done, asked.jobs);
    EXPECT_LT(result->loads_per_job, bound.loads_per_job) << bound.load;
    EXPECT_LT(result->mean_wait, bound.mean_wait) << bound.load;
  }
}

}  // namespace
}  // namespace darkroom
