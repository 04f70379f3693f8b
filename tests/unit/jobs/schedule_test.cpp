#include "service/jobs/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

struct Case {
  const char* what;
  std::vector<ModelQueue> queues;
  std::vector<WorkerSight> workers;  // the first asks
  const char* chosen;                // "": none
};

ModelQueue queue(const char* model, double start_tag, double backlog = 1.0) {
  return {.model = model, .band = 1, .start_tag = start_tag, .jobs = 1, .backlog = backlog};
}

// Has just loaded something, unless told otherwise.
WorkerSight worker(std::vector<std::string> warm, const char* loading = "", double since_load = 0.0) {
  return {.idle = *loading == '\0', .warm = std::move(warm), .loading = loading, .seconds_since_load = since_load};
}

constexpr double kLoad = 10.0;  // seconds

const Case kCases[] = {
    {"nothing waits", {}, {worker({"a"})}, ""},
    {"1: the best job of those it has warm", {queue("x", 1), queue("b", 2), queue("a", 3)}, {worker({"a", "b"})}, "b"},
    {"2: else one that nobody has", {queue("a", 1), queue("x", 2)}, {worker({}), worker({"a"})}, "x"},
    {"2: what is being loaded is somebody's",
     {queue("x", 1), queue("y", 2)},
     {worker({}), worker({}, "x"), worker({}), worker({}), worker({})},
     "y"},
    {"2: not while a quarter is loading", {queue("y", 2)}, {worker({}), worker({}, "x"), worker({}), worker({})}, ""},
    {"2: a lone worker may load", {queue("y", 2)}, {worker({"a"})}, "y"},
    {"3: else the one with the most to do per copy",
     {queue("a", 1, 30), queue("b", 2, 40), queue("c", 3, 50)},
     {worker({}), worker({"a"}), worker({"b"}), worker({"c"}), worker({"c"})},
     "b"},
    {"3: not for less than a load", {queue("a", 1, 10)}, {worker({}), worker({"a"})}, ""},
    {"3: one load of it at a time", {queue("a", 1, 90)}, {worker({}), worker({"a"}), worker({}, "a")}, ""},
    {"4: else none", {queue("a", 1, 5), queue("b", 2, 5)}, {worker({}), worker({"a"}), worker({"b"})}, ""},
    {"a cold model that is first is not passed over for ever",
     {queue("x", 1), queue("a", 2)},
     {worker({"a"}, "", 40.0)},
     "x"},
    {"but only every four load times", {queue("x", 1), queue("a", 2)}, {worker({"a"}, "", 39.0)}, "a"},
    {"and only if it is first", {queue("a", 1), queue("x", 2)}, {worker({"a"}, "", 1e9)}, "a"},
    {"and nobody has it", {queue("x", 1), queue("a", 2)}, {worker({"a"}, "", 1e9), worker({"x"})}, "a"},
};

TEST(Schedule, ChoosesByTheRule) {
  for (const Case& one : kCases) {
    EXPECT_EQ(choose_model({.queues = one.queues, .workers = one.workers, .load_seconds = kLoad}, 0).value_or(""),
              one.chosen)
        << one.what;
  }
}

TEST(Schedule, ABatchIsAnEvenShareOfWhatWaits) {
  ModelQueue waiting = queue("a", 1);
  waiting.jobs = 7;
  Scheduling scheduling{.queues = {waiting}, .workers = {worker({"a"})}, .load_seconds = kLoad};
  EXPECT_EQ(batch_for(scheduling, "a", 4), 4);
  EXPECT_EQ(batch_for(scheduling, "a", 9), 7);
  EXPECT_EQ(batch_for(scheduling, "a", 1), 1);
  EXPECT_EQ(batch_for(scheduling, "b", 9), 1);
  scheduling.workers = {worker({"a"}), worker({"a"}), worker({}, "b")};
  EXPECT_EQ(batch_for(scheduling, "a", 9), 4);
}

// Enlarging a picture needs none; an idle worker must not pass for one that is loading it.
TEST(Schedule, GivesAJobThatNeedsNoModelToAnyWorker) {
  const std::vector<WorkerSight> workers = {worker({"a"}), worker({}, "x"), worker({}), worker({})};
  EXPECT_EQ(choose_model({.queues = {queue("", 2)}, .workers = workers, .load_seconds = kLoad}, 0), "");
  EXPECT_EQ(choose_model({.queues = {queue("", 1), queue("a", 2)}, .workers = workers, .load_seconds = kLoad}, 0), "");
}

}  // namespace
}  // namespace darkroom
