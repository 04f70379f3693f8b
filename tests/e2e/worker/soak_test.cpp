// Job after job with features, models and sizes at random, in one worker: each makes the picture that it makes in a
// worker of its own, whatever went before, and the worker does not grow.
//   DARKROOM_SOAK_JOBS=200   how many; `./dev soak` runs that many under AddressSanitizer
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/e2e/worker/random_jobs.h"
#include "tests/e2e/worker/real_worker.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::IsEmpty;

constexpr std::uint64_t kSeed = 20260101;
constexpr int kDefaultJobs = 20;  // in which every two features meet
// Two or three of the tiny models: others are always pushed out.
constexpr const char* kWorker = "cache_bytes = 150000000\nthreads = 2";

int job_count() {
  const char* asked = std::getenv("DARKROOM_SOAK_JOBS");
  return asked == nullptr ? kDefaultJobs : std::atoi(asked);
}

class Soak : public RealWorker {
 protected:
  void SetUp() override {
    RealWorker::SetUp();
    for (const auto& [from, as] : RandomJobs::models()) put_model(from, as);
  }

  // Every file that a job wrote, by name, which is then gone.
  std::map<std::string, std::string> take_files(const json& answer) const {
    std::map<std::string, std::string> files;
    const auto take = [&](const fs::path& path) {
      files[path.filename()] = bytes_of(path);
      fs::remove(path);
    };
    for (const json& image : answer["data"]["generated_images"]) take(image["path"].get<std::string>());
    for (const json& map : answer["data"].value("control_maps", json::array())) take(map.get<std::string>());
    return files;
  }

  json run(test::WorkerProgram& worker, const json& data) const {
    EXPECT_TRUE(worker.send("inference_request", "job", data)) << "the worker is gone";
    return worker.response_to("job");
  }

  // A job that does not come to its end, one way or the other.
  void disturb(test::WorkerProgram& worker, const json& data, test::Dice& dice) const {
    if (dice.one_in(2)) {
      worker.send("inference_request", "cancelled", data);
      json message = worker.next();
      for (std::size_t n = dice.below(6); n > 0 && message.contains("message_type"); --n) message = worker.next();
      if (!message.contains("message_type")) {  // it was faster
        take_files(message);
        return;
      }
      worker.send("cancel_request", "c", {{"request_id", "cancelled"}});
      bool answered = false;
      bool cancelled = false;
      while (!answered || !cancelled) {
        message = worker.response();
        ASSERT_FALSE(message.is_null()) << "the worker is gone";
        answered = answered || message["request_id"] == "cancelled";
        cancelled = cancelled || message["request_id"] == "c";
        if (message["request_id"] == "cancelled" && message["success"] == true) take_files(message);
      }
      return;
    }
    json broken = data;
    broken["init_image"] = "data:image/png;base64,iVBORw0KGgo=";
    EXPECT_FALSE(run(worker, broken)["success"].get<bool>());
  }
};

TEST_F(Soak, EveryJobMakesThePictureThatItMakesAloneAndNothingGrows) {
  const int count = job_count();
  test::WorkerProgram worker = start(kWorker);
  std::set<std::string> without;
  const json probe = run(worker, {{"prompt", "a"},
                                  {"models", {{"base", "tiny-base"}}},
                                  {"dimensions", {{"width", 64}, {"height", 64}}},
                                  {"hyperparameters", {{"num_inference_steps", 1}}},
                                  {"precision", {{"dtype", "int8"}}}});
  if (probe["success"] == false) {
    ASSERT_EQ(probe["error_code"], "unsupported") << probe;
    without.insert("int8");
  } else {
    take_files(probe);
  }

  RandomJobs jobs(kSeed, without);
  test::Dice dice(kSeed);
  std::vector<json> requests;
  std::vector<std::map<std::string, std::string>> pictures;
  for (int i = 0; i < count; ++i) {
    const RandomJob job = jobs.next();
    SCOPED_TRACE(fmt::format("job {}: {}: {}", i, fmt::join(job.features, ", "), job.data.dump()));
    if (dice.one_in(5)) disturb(worker, job.data, dice);
    const json answer = run(worker, job.data);
    ASSERT_FALSE(answer.is_null()) << "the worker is gone";
    ASSERT_TRUE(answer["success"]) << answer["error"];
    requests.push_back(job.data);
    pictures.push_back(take_files(answer));

    test::WorkerProgram fresh = start(kWorker);
    const json alone = run(fresh, job.data);
    ASSERT_TRUE(alone["success"]) << alone["error"];
    // No picture is printed: it is many bytes.
    EXPECT_TRUE(take_files(alone) == pictures.back()) << "differs from a fresh worker's";
    EXPECT_EQ(describe(fresh.finish()), "exit status 0");
    if ((i + 1) % 25 == 0) fmt::print(stderr, "{} of {} jobs\n", i + 1, count);
  }
  if (count >= kDefaultJobs) {
    EXPECT_THAT(jobs.missing_pairs(), IsEmpty());
  }

  // Again, from where the first round left off: the caches hold what they held.
  const std::uint64_t before = worker.resident();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const json answer = run(worker, requests[i]);
    ASSERT_TRUE(answer["success"]) << answer["error"];
    EXPECT_TRUE(take_files(answer) == pictures[i]) << "job " << i << " differs the second time";
  }
  const std::uint64_t after = worker.resident();
  fmt::print("{} jobs, {} pairs of features; resident {} MB after them, {} MB after them again, {} MB at the highest\n",
             count, jobs.pair_count(), before / 1'000'000, after / 1'000'000, worker.peak() / 1'000'000);
  if (!test::under_sanitizer()) {
    EXPECT_LT(after, before + 64'000'000);
  }
  EXPECT_EQ(describe(worker.finish()), "exit status 0");
}

}  // namespace
}  // namespace darkroom
