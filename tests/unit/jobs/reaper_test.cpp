#include "service/jobs/reaper.h"

#include <gtest/gtest.h>

namespace darkroom {
namespace {

using namespace std::chrono_literals;

constexpr Reaper::Time kStart{1000s};

TEST(Reaper, ReapsWhileItsOwnLeaseHolds) {
  Reaper reaper;
  EXPECT_TRUE(reaper.may_reap(kStart));
  for (auto now = kStart; now < kStart + 60s; now += 5s) {
    reaper.renewed(now);
    EXPECT_TRUE(reaper.may_reap(now));
  }
}

TEST(Reaper, StandsStillForTwentySecondsAfterTheStoreFailed) {
  Reaper reaper;
  reaper.renewed(kStart);
  reaper.store_failed(kStart + 5s);
  reaper.renewed(kStart + 10s);
  EXPECT_FALSE(reaper.may_reap(kStart + 10s));
  EXPECT_FALSE(reaper.may_reap(kStart + 24s));
  EXPECT_TRUE(reaper.may_reap(kStart + 25s));
}

TEST(Reaper, EachFailureBeginsTheTimeAnew) {
  Reaper reaper;
  reaper.store_failed(kStart);
  reaper.store_failed(kStart + 15s);
  EXPECT_FALSE(reaper.may_reap(kStart + 34s));
  EXPECT_TRUE(reaper.may_reap(kStart + 35s));
}

// The process was stopped, or the machine slept: everybody's lease is over, and nobody is dead.
TEST(Reaper, StandsStillWhenItsOwnLeaseWasOver) {
  Reaper reaper;
  reaper.renewed(kStart);
  reaper.renewed(kStart + 600s);
  EXPECT_FALSE(reaper.may_reap(kStart + 600s));
  EXPECT_TRUE(reaper.may_reap(kStart + 620s));
}

TEST(Reaper, APauseWithoutJobsIsNoFailure) {
  Reaper reaper;
  reaper.renewed(kStart);
  reaper.idle();
  reaper.renewed(kStart + 600s);
  EXPECT_TRUE(reaper.may_reap(kStart + 600s));
}

}  // namespace
}  // namespace darkroom
