// A few of the runs that ./dev faults makes many of.
#include "tests/faults/faults.h"

#include <gtest/gtest.h>

#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

class Faults : public testing::Test {
 protected:
  void TearDown() override { fs::remove_all(options_.folder); }

  static void expect_clean(const Result<FaultResult>& result) {
    ASSERT_TRUE(result) << result.error().message;
    if (!result->skipped.empty()) GTEST_SKIP() << result->skipped;
    EXPECT_GT(result->jobs, 0);
    EXPECT_EQ(result->lost, 0);
    EXPECT_EQ(result->doubled, 0);
    EXPECT_EQ(result->other_bytes, 0);
  }

  FaultOptions options_{.programs = fs::path(DARKROOM_BINARY_DIR) / "bin",
                        .clock = DARKROOM_SHIFTED_CLOCK,
                        .models = fs::path(DARKROOM_SOURCE_DIR) / "demo",
                        .folder = fast_directory("faults")};
};

TEST_F(Faults, AKilledServiceLosesAndDoublesNothing) { expect_clean(kill_at_random(options_, Victim::service, 6)); }
TEST_F(Faults, KilledWorkersLoseAndDoubleNothing) { expect_clean(kill_at_random(options_, Victim::worker, 3)); }
TEST_F(Faults, BothKilledLoseAndDoubleNothing) { expect_clean(kill_at_random(options_, Victim::both, 3)); }
TEST_F(Faults, WorkersThatMisbehaveHarmNobodyElse) { expect_clean(misbehave(options_, 7)); }
TEST_F(Faults, ALockedDatabaseDelaysAndLosesNothing) { expect_clean(lock_database(options_, 1)); }
TEST_F(Faults, AClockThatJumpsLosesNothing) { expect_clean(jump_clock(options_, 4)); }
TEST_F(Faults, AFullDiskLosesNothing) { expect_clean(fill_disk(options_, 1)); }

}  // namespace
}  // namespace darkroom
