// The contract of JobStore, held against every implementation.
#include "service/store/job_store.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "service/store/sqlite_store.h"
#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

using OpenStore = std::function<Result<std::unique_ptr<JobStore>>(const fs::path& directory)>;

struct Implementation {
  const char* name;
  OpenStore open;
};

const Implementation kImplementations[] = {
    {"Sqlite", [](const fs::path& directory) { return open_sqlite_store(directory / "jobs.db"); }},
};

class JobStoreTest : public testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    directory_ = fast_directory("store");
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    reopen();
  }
  void TearDown() override {
    store_.reset();
    fs::remove_all(directory_);
  }

  void reopen() {
    store_.reset();
    Result<std::unique_ptr<JobStore>> store = GetParam().open(directory_);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
  }

  static Submission submission(const std::string& key = "", const std::string& model = "sdxl") {
    Submission submission;
    submission.spec.model = model;
    submission.spec.prompt = "a lake";
    submission.spec.seed = 0xFFFF'FFFF'FFFF'FFF0U;  // all 64 bits must come back
    submission.caller.key = key;
    return submission;
  }
  Admission admission(Submission submission) {
    return {.submission = std::move(submission),
            .id = fmt::format("job{:05}", ++made_),
            .fingerprint = "f",
            .batch_class = "b",
            .cost = 1.0,
            .max_queued = 100'000,
            .now = now_};
  }
  std::string admit(Submission submission) {
    const Result<Admitted> admitted = store_->admit(admission(std::move(submission)));
    EXPECT_TRUE(admitted) << admitted.error().message;
    return admitted->job.id;
  }
  std::string admit(const std::string& key = "", const std::string& model = "sdxl") {
    return admit(submission(key, model));
  }
  std::optional<Claim> claim(const std::string& model = "sdxl", const std::string& node = "node") {
    std::vector<Claim> claims = claim_together(1, model, node);
    EXPECT_LE(claims.size(), 1U);
    return claims.empty() ? std::nullopt : std::optional(std::move(claims.front()));
  }
  std::vector<Claim> claim_together(int most, const std::string& model = "sdxl", const std::string& node = "node") {
    Result<std::vector<Claim>> claims =
        store_->claim({.model = model, .node = node, .worker = 3, .most = most, .now = now_});
    EXPECT_TRUE(claims) << claims.error().message;
    return std::move(*claims);
  }
  std::vector<std::string> ids_claimed(int most) {
    std::vector<std::string> ids;
    for (const Claim& claim : claim_together(most)) ids.push_back(claim.job.id);
    return ids;
  }
  std::string admit_class(const std::string& batch_class) {
    Admission asked = admission(submission());
    asked.batch_class = batch_class;
    EXPECT_TRUE(store_->admit(asked));
    return asked.id;
  }
  JobView get(const std::string& job) {
    const Result<std::optional<JobView>> view = store_->get(job);
    EXPECT_TRUE(view && view->has_value()) << job;
    return **view;
  }
  static Picture picture(const std::string& blob, std::uint64_t bytes = 100) {
    return {
        .blob = blob, .sha256 = "ab" + blob, .bytes = bytes, .seed = 0xFFFF'FFFF'FFFF'FFF1U, .width = 8, .height = 16};
  }
  Ending success(const JobView& job, std::vector<Picture> pictures) {
    return {.job = job.id,
            .attempt = job.attempt,
            .status = JobStatus::succeeded,
            .failure = {},
            .warnings = {"a warning of the worker"},
            .pictures = std::move(pictures),
            .metrics = {.inference_time = 2.5, .device_name = "cpu"},
            .now = now_};
  }
  Finish finish(const Ending& ending) {
    const Result<Finish> finish = store_->finish(ending);
    EXPECT_TRUE(finish) << finish.error().message;
    return *finish;
  }
  GivenBack give_back(const JobView& job, const std::string& crash = "") {
    const Result<GivenBack> given =
        store_->give_back({.job = job.id, .attempt = job.attempt, .crash = crash, .now = now_});
    EXPECT_TRUE(given) << given.error().message;
    return *given;
  }
  int queued() {
    const Result<QueueCounts> counts = store_->counts();
    EXPECT_TRUE(counts);
    int all = 0;
    for (const auto& [priority, count] : counts->queued) all += count;
    return all;
  }

  fs::path directory_;
  std::unique_ptr<JobStore> store_;
  WallTime now_ = WallTime(std::chrono::seconds(1'700'000'000));
  int made_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Stores, JobStoreTest, testing::ValuesIn(kImplementations),
                         [](const auto& param) { return param.param.name; });

// --- From admission to the end ---

TEST_P(JobStoreTest, AnAdmittedJobIsWhatWasSubmittedAlsoAfterARestart) {
  Submission asked = submission("key1");
  asked.options = {.priority = Priority::high, .timeout = 77, .tags = {"a", "b \"c\""}};
  asked.warnings = {"a warning of decoding"};
  asked.echo = "{\"prompt\": \"a lake\"}";
  asked.spec.init_image = ImageSource{.path = "", .bytes = std::string("\x89PNG\0x", 6)};
  const std::string job = admit(asked);
  reopen();
  const JobView view = get(job);
  EXPECT_EQ(view.status, JobStatus::queued);
  EXPECT_EQ(view.key, "key1");
  EXPECT_EQ(view.options.priority, Priority::high);
  EXPECT_EQ(view.options.timeout, 77);
  EXPECT_THAT(view.options.tags, ElementsAre("a", "b \"c\""));
  EXPECT_THAT(view.warnings, ElementsAre("a warning of decoding"));
  EXPECT_EQ(view.seed, asked.spec.seed);
  EXPECT_EQ(view.created, now_);
  EXPECT_EQ(view.attempt, 0);
  const Result<StoredRequest> request = store_->request(job);
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->spec.prompt, "a lake");
  EXPECT_EQ(request->spec.seed, asked.spec.seed);
  EXPECT_EQ(request->spec.init_image->bytes, asked.spec.init_image->bytes);
  EXPECT_EQ(request->echo, asked.echo);
}

TEST_P(JobStoreTest, AClaimStartsTheFirstJobOnceAndFinishingStoresAll) {
  const std::string first = admit();
  const std::string second = admit();
  const std::optional<Claim> claimed = claim();
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->job.id, first);
  EXPECT_EQ(claimed->job.attempt, 1);
  EXPECT_EQ(claimed->spec.prompt, "a lake");
  EXPECT_EQ(get(first).status, JobStatus::running);
  EXPECT_EQ(get(first).started, now_);
  EXPECT_EQ(claim()->job.id, second);
  EXPECT_FALSE(claim());

  now_ += 5s;
  EXPECT_EQ(finish(success(claimed->job, {picture("p0"), picture("p1")})), Finish::done);
  const JobView view = get(first);
  EXPECT_EQ(view.status, JobStatus::succeeded);
  EXPECT_EQ(view.finished, now_);
  EXPECT_THAT(view.warnings, ElementsAre("a warning of the worker"));
  EXPECT_EQ(view.metrics.device_name, "cpu");
  ASSERT_EQ(view.pictures.size(), 2U);
  EXPECT_EQ(view.pictures[1].blob, "p1");
  EXPECT_EQ(view.pictures[1].seed, 0xFFFF'FFFF'FFFF'FFF1U);
  EXPECT_EQ(view.pictures[1].height, 16);
}

TEST_P(JobStoreTest, FinishingTwiceIsSuccessAndChangesNothing) {
  admit("key1");
  const JobView job = claim()->job;
  EXPECT_EQ(finish(success(job, {picture("p0")})), Finish::done);
  EXPECT_EQ(finish(success(job, {picture("p0")})), Finish::repeated);
  EXPECT_EQ(get(job.id).pictures.size(), 1U);
  EXPECT_EQ(store_->usage("key1", now_)->pictures_today, 1U);
}

TEST_P(JobStoreTest, AnAttemptThatIsOverFinishesNothing) {
  admit();
  const JobView zombie = claim()->job;
  EXPECT_EQ(give_back(zombie), GivenBack::queued);
  EXPECT_EQ(finish(success(zombie, {picture("old")})), Finish::stale);  // while it waits again
  const JobView second = claim()->job;
  EXPECT_EQ(second.attempt, 2);
  EXPECT_EQ(finish(success(zombie, {picture("old")})), Finish::stale);  // while it runs again
  EXPECT_EQ(give_back(zombie), GivenBack::stale);
  EXPECT_EQ(finish(success(second, {picture("new")})), Finish::done);
  EXPECT_EQ(finish(success(zombie, {picture("old")})), Finish::stale);  // after its end
  EXPECT_EQ(get(second.id).pictures[0].blob, "new");
  EXPECT_FALSE(*store_->has_blob("old"));
  EXPECT_TRUE(*store_->has_blob("new"));
}

TEST_P(JobStoreTest, AFailureKeepsItsErrorAndItsComplaints) {
  admit();
  Ending ending = success(claim()->job, {});
  ending.status = JobStatus::failed;
  ending.failure = Refusal{{ErrorCode::not_found, "no such model"}, {{"/data/models/base", "is unknown"}}};
  EXPECT_EQ(finish(ending), Finish::done);
  const JobView view = get(ending.job);
  EXPECT_EQ(view.status, JobStatus::failed);
  EXPECT_EQ(view.failure->error.code, ErrorCode::not_found);
  EXPECT_EQ(view.failure->error.message, "no such model");
  ASSERT_EQ(view.failure->complaints.size(), 1U);
  EXPECT_EQ(view.failure->complaints[0].pointer, "/data/models/base");
}

TEST_P(JobStoreTest, AFullQueueRefuses) {
  Admission last = admission(submission());
  last.max_queued = 1;
  ASSERT_TRUE(store_->admit(last));
  Admission one_more = admission(submission("", "another model"));
  one_more.max_queued = 1;
  const Result<Admitted> refused = store_->admit(one_more);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::overloaded);
  EXPECT_FALSE(store_->get(one_more.id)->has_value());
  claim();  // what runs does not wait
  EXPECT_TRUE(store_->admit(one_more));
}

// --- Idempotency ---

TEST_P(JobStoreTest, TheSameTokenOfTheSameKeyIsTheSameJob) {
  Submission asked = submission("key1");
  asked.idempotency_token = "t";
  const std::string job = admit(asked);
  const Result<Admitted> again = store_->admit(admission(asked));
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->repeated);
  EXPECT_EQ(again->job.id, job);
  EXPECT_EQ(queued(), 1);

  Admission different = admission(asked);
  different.fingerprint = "another";
  EXPECT_EQ(store_->admit(different).error().code, ErrorCode::conflict);

  asked.caller.key = "key2";
  EXPECT_NE(admit(asked), job);
}

TEST_P(JobStoreTest, ATokenIsAnsweredAlsoWhenTheQueueIsFull) {
  Submission asked = submission();
  asked.idempotency_token = "t";
  const std::string job = admit(asked);
  Admission again = admission(asked);
  again.max_queued = 1;
  ASSERT_TRUE(store_->admit(again));
}

// --- Cancelling ---

TEST_P(JobStoreTest, AQueuedJobEndsWhenItIsCancelled) {
  const std::string job = admit();
  EXPECT_TRUE(store_->cancel(job, now_)->changed);
  EXPECT_FALSE(store_->cancel(job, now_)->changed);
  EXPECT_EQ(get(job).status, JobStatus::cancelled);
  EXPECT_EQ(get(job).failure->error.code, ErrorCode::cancelled);
  EXPECT_FALSE(claim());
  EXPECT_THAT(*store_->queues(), IsEmpty());
  EXPECT_EQ(store_->cancel(job, now_)->job.status, JobStatus::cancelled);
}

TEST_P(JobStoreTest, ARunningJobIsFlaggedAndItsFinishDecides) {
  admit();
  admit();
  const JobView first = claim()->job;
  const JobView second = claim()->job;
  EXPECT_EQ(store_->cancel(first.id, now_)->job.status, JobStatus::running);
  EXPECT_TRUE(get(first.id).cancel_asked);
  EXPECT_EQ(finish(success(first, {picture("p")})), Finish::done);
  EXPECT_EQ(store_->cancel(first.id, now_)->job.status, JobStatus::succeeded);

  ASSERT_TRUE(store_->cancel(second.id, now_));
  EXPECT_EQ(give_back(second, "signal 9"), GivenBack::ended);  // it is not started again
  EXPECT_EQ(get(second.id).status, JobStatus::cancelled);
}

TEST_P(JobStoreTest, WhatIsNotThereCannotBeCancelled) {
  EXPECT_EQ(store_->cancel("nothing", now_).error().code, ErrorCode::not_found);
  EXPECT_EQ(store_->request("nothing").error().code, ErrorCode::not_found);
  EXPECT_FALSE(store_->get("nothing")->has_value());
}

// --- Crashes, restarts, nodes ---

TEST_P(JobStoreTest, TheSecondCrashEndsAJobAndNamesBothCauses) {
  admit();
  EXPECT_EQ(give_back(claim()->job, "signal 9 (Killed)"), GivenBack::queued);
  EXPECT_EQ(give_back(claim()->job), GivenBack::queued);  // an interruption is no crash
  const JobView third = claim()->job;
  EXPECT_EQ(third.attempt, 3);
  EXPECT_EQ(third.crashes, 1);
  EXPECT_EQ(give_back(third, "signal 6 (Aborted)"), GivenBack::ended);
  const JobView view = get(third.id);
  EXPECT_EQ(view.status, JobStatus::failed);
  EXPECT_EQ(view.failure->error.code, ErrorCode::worker_lost);
  EXPECT_THAT(view.failure->error.message, HasSubstr("attempt 1: signal 9 (Killed); attempt 3: signal 6 (Aborted)"));
}

TEST_P(JobStoreTest, AnInterruptedJobGoesFirst) {
  const std::string first = admit();
  admit();
  const JobView started = claim()->job;
  admit("other");
  EXPECT_EQ(give_back(started), GivenBack::queued);
  EXPECT_EQ(*store_->position(first), 0);
  EXPECT_EQ(claim()->job.id, first);
}

TEST_P(JobStoreTest, AfterARestartWhatRanWaitsAgainWithItsSeedAndItsCrashes) {
  const std::string interrupted = admit();
  const std::string waiting = admit();
  EXPECT_EQ(give_back(claim()->job, "signal 9"), GivenBack::queued);
  claim();
  reopen();
  EXPECT_THAT(*store_->reap_orphans("new node", now_), ElementsAre(interrupted));
  EXPECT_EQ(get(interrupted).status, JobStatus::queued);
  EXPECT_EQ(get(interrupted).crashes, 1);
  EXPECT_EQ(get(waiting).status, JobStatus::queued);
  const std::optional<Claim> again = claim("sdxl", "new node");
  EXPECT_EQ(again->job.id, interrupted);
  EXPECT_EQ(again->job.attempt, 3);
  EXPECT_EQ(again->spec.seed, 0xFFFF'FFFF'FFFF'FFF0U);
}

TEST_P(JobStoreTest, WhatWasToBeCancelledEndsAtARestart) {
  const std::string job = admit();
  claim();
  ASSERT_TRUE(store_->cancel(job, now_));
  reopen();
  ASSERT_TRUE(store_->reap_orphans("new node", now_));
  EXPECT_EQ(get(job).status, JobStatus::cancelled);
}

TEST_P(JobStoreTest, AnotherNodesJobsAreItsOwnWhileItsLeaseHolds) {
  const std::string job = admit();
  claim("sdxl", "a");  // renews the lease
  EXPECT_FALSE(*store_->adopt(job, 1, "b", now_ + 14s));
  EXPECT_THAT(*store_->reap_orphans("b", now_ + 14s), IsEmpty());
  ASSERT_TRUE(store_->renew("a", now_ + 14s));
  EXPECT_THAT(*store_->reap_orphans("b", now_ + 28s), IsEmpty());
  EXPECT_THAT(*store_->reap_orphans("a", now_ + 60s), IsEmpty());  // its own are not orphans, whatever the clock says
  EXPECT_THAT(*store_->reap_orphans("b", now_ + 60s), ElementsAre(job));
}

TEST_P(JobStoreTest, AnOrphanIsAdoptedByJobAndAttemptAndThenNotReaped) {
  const std::string job = admit();
  claim("sdxl", "a");
  EXPECT_FALSE(*store_->adopt(job, 2, "b", now_ + 60s));  // no such attempt
  EXPECT_TRUE(*store_->adopt(job, 1, "b", now_ + 60s));
  EXPECT_TRUE(*store_->adopt(job, 1, "b", now_ + 60s));  // again is success
  ASSERT_TRUE(store_->renew("b", now_ + 60s));
  EXPECT_THAT(*store_->reap_orphans("c", now_ + 61s), IsEmpty());
  EXPECT_EQ(finish(success(get(job), {picture("p")})), Finish::done);
  EXPECT_FALSE(*store_->adopt(job, 1, "c", now_ + 600s));
}

// --- Batches ---

TEST_P(JobStoreTest, JobsOfTheFirstOnesClassAreClaimedWithIt) {
  const std::string a = admit_class("x");
  const std::string b = admit_class("y");
  const std::string c = admit_class("x");
  const std::string d = admit_class("x");
  const std::string e = admit_class("x");
  EXPECT_THAT(ids_claimed(3), ElementsAre(a, c, d));
  EXPECT_EQ(get(d).status, JobStatus::running);
  EXPECT_EQ(get(d).attempt, 1);
  EXPECT_EQ((*store_->queues())[0].jobs, 2);
  EXPECT_EQ((*store_->queues())[0].backlog, 2.0);
  EXPECT_THAT(ids_claimed(3), ElementsAre(b));
  EXPECT_THAT(ids_claimed(3), ElementsAre(e));
  EXPECT_THAT(ids_claimed(3), IsEmpty());
}

TEST_P(JobStoreTest, AJobOfNoClassIsClaimedAlone) {
  const std::string a = admit_class("");
  const std::string b = admit_class("");
  EXPECT_THAT(ids_claimed(9), ElementsAre(a));
  EXPECT_THAT(ids_claimed(9), ElementsAre(b));
}

TEST_P(JobStoreTest, AfterACrashAJobRunsAlone) {
  const std::string a = admit_class("x");
  const std::string b = admit_class("x");
  const std::string c = admit_class("x");
  EXPECT_THAT(ids_claimed(2), ElementsAre(a, b));
  give_back(get(a), "it died");
  give_back(get(b), "it died");
  const std::string d = admit_class("x");
  EXPECT_THAT(ids_claimed(9), ElementsAre(a));
  EXPECT_THAT(ids_claimed(9), ElementsAre(b));
  EXPECT_THAT(ids_claimed(9), ElementsAre(c, d));
}

TEST_P(JobStoreTest, AnInterruptedJobTakesOthersAlong) {
  const std::string a = admit_class("x");
  const std::string b = admit_class("x");
  EXPECT_THAT(ids_claimed(1), ElementsAre(a));
  give_back(get(a));
  EXPECT_THAT(ids_claimed(9), ElementsAre(a, b));
}

// --- Fairness ---

class FairnessTest : public JobStoreTest {
 protected:
  void flood(const std::string& key, double weight, int jobs, Priority priority = Priority::normal) {
    Submission asked = submission(key);
    asked.caller.weight = weight;
    asked.options.priority = priority;
    for (int i = 0; i < jobs; ++i) admit(asked);
  }
  std::map<std::string, int> claims_by_key(int count) {
    std::map<std::string, int> keys;
    for (int i = 0; i < count; ++i) ++keys[claim()->job.key];
    return keys;
  }
};

INSTANTIATE_TEST_SUITE_P(Stores, FairnessTest, testing::ValuesIn(kImplementations),
                         [](const auto& param) { return param.param.name; });

TEST_P(FairnessTest, KeysShareByWeightAfterAFlood) {
  flood("a", 1, 600);
  flood("b", 1, 100);
  flood("c", 3, 100);
  EXPECT_EQ(claims_by_key(150), (std::map<std::string, int>{{"a", 30}, {"b", 30}, {"c", 90}}));
}

TEST_P(FairnessTest, ClassesShareSixteenToFourToOne) {
  flood("a", 1, 100, Priority::low);
  flood("a", 1, 100, Priority::normal);
  flood("a", 1, 100, Priority::high);
  std::map<Priority, int> classes;
  for (int i = 0; i < 105; ++i) ++classes[claim()->job.options.priority];
  EXPECT_EQ(classes, (std::map<Priority, int>{{Priority::low, 5}, {Priority::normal, 20}, {Priority::high, 80}}));
}

TEST_P(FairnessTest, AKeyBackFromAPauseGetsItsShareAndNoMore) {
  flood("a", 1, 100);
  claims_by_key(50);
  flood("b", 1, 100);  // the first term of now_v: a's queue
  EXPECT_EQ(claims_by_key(40), (std::map<std::string, int>{{"a", 20}, {"b", 20}}));
}

TEST_P(FairnessTest, AKeyBackFromAPauseGetsNoMoreAlsoWhenNothingIsQueued) {
  // One job at a time: whenever a job is admitted, the queue is empty and one runs.
  flood("a", 1, 1);
  for (int i = 0; i < 100; ++i) {
    const JobView running = claim()->job;
    if (i == 99) break;
    flood("a", 1, 1);
    finish(success(running, {picture(fmt::format("p{}", i))}));
  }
  flood("b", 1, 100);  // the second term of now_v: a's running job
  flood("a", 1, 100);
  EXPECT_EQ(claims_by_key(100), (std::map<std::string, int>{{"a", 49}, {"b", 51}}));  // b starts beside the running job
}

TEST_P(FairnessTest, AKeyBackFromAPauseGetsNoMoreAlsoWhenNothingRuns) {
  flood("a", 1, 50);
  for (int i = 0; i < 50; ++i) finish(success(claim()->job, {picture(fmt::format("p{}", i))}));
  flood("b", 1, 100);  // the third term: a's finish
  flood("a", 1, 100);
  EXPECT_EQ(claims_by_key(100), (std::map<std::string, int>{{"a", 50}, {"b", 50}}));
}

TEST_P(FairnessTest, CancelledJobsAreNotCharged) {
  Submission asked = submission("a");
  std::vector<std::string> jobs;
  for (int i = 0; i < 50; ++i) jobs.push_back(admit(asked));
  flood("b", 1, 50);
  for (const std::string& job : jobs) ASSERT_TRUE(store_->cancel(job, now_));
  flood("a", 1, 50);
  EXPECT_EQ(claims_by_key(40), (std::map<std::string, int>{{"a", 20}, {"b", 20}}));
}

TEST_P(FairnessTest, DearJobsCountForMore) {
  for (int i = 0; i < 40; ++i) {
    Admission dear = admission(submission("dear"));
    dear.cost = 3.0;
    ASSERT_TRUE(store_->admit(dear));
    admit("cheap");
  }
  EXPECT_EQ(claims_by_key(40), (std::map<std::string, int>{{"cheap", 30}, {"dear", 10}}));
}

// --- Queues, positions, lists ---

TEST_P(JobStoreTest, QueuesSayWhatWaitsForEachModelInOrder) {
  admit("a", "x");
  admit("b", "y");
  admit("a", "x");
  const std::vector<ModelQueue> queues = *store_->queues();
  ASSERT_EQ(queues.size(), 2U);
  EXPECT_EQ(queues[0].model, "x");
  EXPECT_EQ(queues[0].jobs, 2);
  EXPECT_EQ(queues[0].backlog, 2.0);
  EXPECT_EQ(queues[1].model, "y");
  EXPECT_LE(queues[0].start_tag, queues[1].start_tag);
  const JobView job = claim("x")->job;
  EXPECT_EQ((*store_->queues())[0].jobs, 1);
  give_back(job);
  EXPECT_EQ((*store_->queues())[0].jobs, 2);
  EXPECT_FALSE(claim("z"));
}

TEST_P(JobStoreTest, APositionIsTheNumberOfJobsBefore) {
  const std::string a = admit("a");
  const std::string b = admit("a");
  const std::string c = admit("b");  // another key: beside a
  EXPECT_EQ(*store_->position(a), 0);
  EXPECT_EQ(*store_->position(c), 1);
  EXPECT_EQ(*store_->position(b), 2);
  claim();
  EXPECT_EQ(*store_->position(b), 1);
  EXPECT_EQ(*store_->position(a), std::nullopt);
}

TEST_P(JobStoreTest, ListsGoPageByPageNewestFirst) {
  std::vector<std::string> jobs;
  for (int i = 0; i < 5; ++i) {
    jobs.push_back(admit(i == 2 ? "other" : "key"));
    if (i % 2 == 1) now_ += 1s;  // some share their time
  }
  std::vector<std::string> seen;
  std::string cursor;
  do {
    const Result<JobPage> page = store_->list({}, cursor, 2);
    ASSERT_TRUE(page);
    EXPECT_LE(page->jobs.size(), 2U);
    for (const JobView& job : page->jobs) seen.push_back(job.id);
    cursor = page->next;
  } while (!cursor.empty());
  EXPECT_THAT(seen, testing::ElementsAreArray(jobs.rbegin(), jobs.rend()));

  const auto ids = [&](const JobFilter& filter) {
    std::vector<std::string> found;
    const Result<JobPage> page = store_->list(filter, "", 10);
    for (const JobView& job : page->jobs) found.push_back(job.id);
    return found;
  };
  EXPECT_THAT(ids({.key = "other"}), ElementsAre(jobs[2]));
  EXPECT_THAT(ids({.key = "other", .fingerprint = "f"}), ElementsAre(jobs[2]));
  EXPECT_THAT(ids({.fingerprint = "g"}), IsEmpty());
  claim();
  EXPECT_THAT(ids({.status = JobStatus::running}), ElementsAre(jobs[0]));
  EXPECT_THAT(ids({.key = "key", .status = JobStatus::queued}), ElementsAre(jobs[4], jobs[3], jobs[1]));
  for (const char* wrong : {"x", "12", "1x.y", "."}) {
    EXPECT_EQ(store_->list({}, wrong, 2).error().code, ErrorCode::invalid_argument) << wrong;
  }
}

// --- Retention, usage, webhooks ---

TEST_P(JobStoreTest, OldJobsGoAndTheirBlobsAreNamed) {
  for (int i = 0; i < 3; ++i) {
    admit();
    finish(success(claim()->job, {picture(fmt::format("p{}", i))}));
    now_ += 1h;
  }
  const std::string waiting = admit();
  EXPECT_THAT(store_->reap({.before = now_ - 90min, .max_bytes = {}})->blobs, ElementsAre("p0", "p1"));
  EXPECT_THAT(store_->reap({.before = now_ - 90min, .max_bytes = {}})->blobs, IsEmpty());
  EXPECT_THAT(store_->reap({})->blobs, IsEmpty());
  EXPECT_EQ(store_->list({}, "", 10)->jobs.size(), 2U);
  EXPECT_EQ(get(waiting).status, JobStatus::queued);
}

TEST_P(JobStoreTest, WhatIsTooMuchGoesOldestFirst) {
  for (int i = 0; i < 4; ++i) {
    admit();
    finish(success(claim()->job, {picture(fmt::format("p{}", i), 100)}));
    now_ += 1s;
  }
  EXPECT_EQ(store_->counts()->picture_bytes, 400U);
  EXPECT_THAT(store_->reap({.before = {}, .max_bytes = 250})->blobs, ElementsAre("p0", "p1"));
  EXPECT_EQ(store_->counts()->picture_bytes, 200U);
}

TEST_P(JobStoreTest, OnlyAFinishedJobIsRemoved) {
  const std::string job = admit();
  EXPECT_EQ(store_->remove(job).error().code, ErrorCode::conflict);
  finish(success(claim()->job, {picture("p")}));
  EXPECT_THAT(*store_->remove(job), ElementsAre("p"));
  EXPECT_EQ(store_->remove(job).error().code, ErrorCode::not_found);
}

TEST_P(JobStoreTest, UsageCountsByKeyAndDay) {
  admit("key");
  admit("key");
  admit("other");
  finish(success(claim()->job, {picture("p")}));
  KeyUsage usage = *store_->usage("key", now_);
  EXPECT_EQ(usage.queued + usage.running, 1);
  EXPECT_EQ(usage.jobs_today, 2U);
  EXPECT_EQ(usage.pictures_today, 1U);
  EXPECT_EQ(usage.device_seconds_today, 2.5);
  usage = *store_->usage("key", now_ + 24h);
  EXPECT_EQ(usage.jobs_today, 0U);
}

TEST_P(JobStoreTest, EveryEndPutsOneWebhookIntoTheOutbox) {
  Submission asked = submission();
  asked.webhook = {.url = "https://example.org/hook", .secret_id = "s"};
  const std::string done = admit(asked);
  const std::string cancelled = admit(asked);
  const std::string poison = admit(asked);
  admit();  // none asked for
  const JobView job = claim()->job;
  finish(success(job, {picture("p")}));
  finish(success(job, {picture("p")}));
  ASSERT_TRUE(store_->cancel(cancelled, now_));
  give_back(claim()->job, "one");
  give_back(claim()->job, "two");
  reopen();
  std::map<std::string, std::string> types;
  const std::vector<WebhookMessage> due = *store_->due_webhooks(now_, 10);
  for (const WebhookMessage& message : due) {
    const auto body = parse_json(message.body);
    ASSERT_TRUE(body) << message.body;
    types[message.id] = (*body)["type"];
    EXPECT_EQ((*body)["data"]["id"], message.id);
    EXPECT_EQ(message.webhook.url, "https://example.org/hook");
    EXPECT_EQ(message.webhook.secret_id, "s");
  }
  EXPECT_EQ(types, (std::map<std::string, std::string>{
                       {done, "job.succeeded"}, {cancelled, "job.cancelled"}, {poison, "job.failed"}}));
}

TEST_P(JobStoreTest, AWebhookThatFailedIsDueLaterAndADeliveredOneNeverAgain) {
  Submission asked = submission();
  asked.webhook = {.url = "https://example.org/hook", .secret_id = ""};
  const std::string job = admit(asked);
  ASSERT_TRUE(store_->cancel(job, now_));
  ASSERT_TRUE(store_->retry_webhook(job, now_ + 10s));
  EXPECT_THAT(*store_->due_webhooks(now_, 10), IsEmpty());
  EXPECT_EQ(*store_->next_webhook(), now_ + 10s);
  const std::vector<WebhookMessage> due = *store_->due_webhooks(now_ + 10s, 10);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].attempts, 1);
  ASSERT_TRUE(store_->drop_webhook(job));
  EXPECT_EQ(*store_->next_webhook(), std::nullopt);
}

TEST_P(JobStoreTest, AMeasureOutlivesTheProcess) {
  EXPECT_EQ(*store_->measure("load"), std::nullopt);
  ASSERT_TRUE(store_->set_measure("load", 1.5));
  ASSERT_TRUE(store_->set_measure("load", 2.5));
  reopen();
  EXPECT_EQ(*store_->measure("load"), 2.5);
}

TEST_P(JobStoreTest, ManyThreadsMayCallAtOnceAndOnesErrorIsNoOthers) {
  std::atomic<int> admitted = 0;
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        Submission asked = submission(fmt::format("key{}", t));
        asked.idempotency_token = i % 5 == 4 ? "used" : fmt::format("{}", i);
        const Result<Admitted> answer = store_->admit({.submission = asked,
                                                       .id = fmt::format("t{}i{:02}", t, i),
                                                       .fingerprint = fmt::format("{}", i),
                                                       .cost = 1.0,
                                                       .max_queued = 1000,
                                                       .now = now_});
        ++(answer ? admitted : refused);
        EXPECT_EQ(answer.has_value(), i % 5 != 4 || i == 4);  // the token is another request's from its second use
        EXPECT_EQ(store_->position(fmt::format("t{}i{:02}", t, i))->has_value(), answer.has_value());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted, 8 * 21);
  EXPECT_EQ(refused, 8 * 4);
  EXPECT_EQ(queued(), admitted);
  EXPECT_EQ((*store_->queues())[0].jobs, admitted);
}

TEST_P(JobStoreTest, TenThousandQueuedJobsAreThereAfterARestart) {
  std::optional<std::string> last;
  for (int i = 0; i < 10'000; ++i) last = admit(fmt::format("key{}", i % 7), fmt::format("model{}", i % 5));
  reopen();
  EXPECT_EQ(queued(), 10'000);
  EXPECT_EQ(store_->queues()->size(), 5U);
  EXPECT_TRUE(claim("model3"));
  EXPECT_TRUE(*store_->position(*last));
}

}  // namespace
}  // namespace darkroom
