// The pool with workers that are none: every arrival and every moment is the test's.
#include "service/workers/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

// What was done to a worker.
struct Deeds {
  std::vector<Request> sent;
  bool closed = false;
  bool terminated = false;
  bool killed = false;
};

class FakeChannel final : public WorkerChannel {
 public:
  explicit FakeChannel(std::shared_ptr<Deeds> deeds) : deeds_(std::move(deeds)) {}
  void send(const std::vector<Request>& requests) override {
    deeds_->sent.insert(deeds_->sent.end(), requests.begin(), requests.end());
  }
  void close() override { deeds_->closed = true; }
  void terminate() override { deeds_->terminated = true; }
  void kill() override { deeds_->killed = true; }

 private:
  std::shared_ptr<Deeds> deeds_;
};

struct Recorder final : PoolListener {
  void on_progress(const std::string& id, const Progress& progress) override {
    told.push_back(fmt::format("{} step {}", id, progress.step));
  }
  void on_answer(const std::string& id, Response response) override {
    told.push_back(fmt::format("{} {}", id, response.refusal ? response.refusal->error.message : "done"));
  }
  void on_loss(const std::string& id, Loss loss, const std::string& cause) override {
    constexpr const char* kNames[] = {"crashed", "timed out", "cancelled", "disturbed"};
    told.push_back(fmt::format("{} {}: {}", id, kNames[static_cast<int>(loss)], cause));
  }
  void on_log(LogLevel, const std::string& message) override { logged.push_back(message); }

  std::vector<std::string> told;
  std::vector<std::string> logged;
};

class WorkerPoolTest : public testing::Test {
 protected:
  void make(int workers = 1) {
    pool_ = std::make_unique<WorkerPool>(
        PoolOptions{.workers = workers,
                    .start = [this](const OnArrival&) -> Result<std::unique_ptr<WorkerChannel>> {
                      if (!startable_) return fail(ErrorCode::not_found, "no such program");
                      deeds_.push_back(std::make_shared<Deeds>());
                      return std::make_unique<FakeChannel>(deeds_.back());
                    },
                    .heartbeat = 10s,
                    .patience = 100s,
                    .first_restart = 1s,
                    .last_restart = 5s,
                    .grace = 3s},
        recorder_, [](const WorkerPool::Arrival&) {});
    pool_->tick(now_);
  }
  void arrive(WorkerArrival what, std::size_t worker = 0) { pool_->receive({worker, std::move(what)}, now_); }
  void get_ready(std::size_t worker = 0) { arrive(WorkerMessage(Event{"", Ready{"1", "cpu", 42, "float32"}}), worker); }
  void respond(const std::string& id, ResponseData data = Generated{}, std::optional<Error> error = std::nullopt) {
    Response response{.request_id = id, .data = std::move(data)};
    if (error) response.refusal = Refusal{*error, {}};
    arrive(WorkerMessage(std::move(response)));
  }
  void run(const std::string& id, const std::string& model = "m", std::size_t worker = 0) {
    GenerationRequest request;
    request.job.timeout = 60;
    pool_->run(worker, {{.request_id = id, .model = model, .request = request}}, now_);
  }
  void run_together(const std::vector<std::string>& ids) {
    GenerationRequest request;
    request.job.timeout = 60;
    std::vector<PoolJob> jobs;
    for (const std::string& id : ids) jobs.push_back({.request_id = id, .model = "m", .request = request});
    pool_->run(0, std::move(jobs), now_);
  }
  void pass(std::chrono::seconds time) {
    now_ += time;
    pool_->tick(now_);
  }
  // Answers the questions about its status that a worker has got since.
  void answer_status(std::size_t checkpoints = 1) {
    Status status;
    status.loaded_models.resize(checkpoints, {.path = "/m", .kind = "checkpoint"});
    const std::vector<Request> sent = std::exchange(deeds_.back()->sent, {});
    for (const Request& request : sent) {
      if (std::holds_alternative<AskStatus>(request.body)) respond(request.request_id, status);
    }
  }
  WorkerState state(std::size_t worker = 0) const { return pool_->stats()[worker].state; }

  Recorder recorder_;
  bool startable_ = true;
  std::vector<std::shared_ptr<Deeds>> deeds_;  // one a start
  SteadyTime now_{1000s};
  std::unique_ptr<WorkerPool> pool_;
};

TEST_F(WorkerPoolTest, AWorkerGetsReadyDoesAJobAndIsFreeAgain) {
  make();
  EXPECT_EQ(state(), WorkerState::starting);
  EXPECT_FALSE(pool_->any_ready());
  get_ready();
  EXPECT_EQ(state(), WorkerState::idle);
  EXPECT_EQ(pool_->stats()[0].pid, 42);
  run("j-1");
  EXPECT_EQ(state(), WorkerState::busy);
  EXPECT_EQ(deeds_[0]->sent.at(0).request_id, "j-1");
  arrive(WorkerMessage(Event{"j-1", Progress{"denoise", 3, 5, 1.0, ""}}));
  respond("j-1");
  EXPECT_EQ(state(), WorkerState::idle);
  EXPECT_THAT(recorder_.told, ElementsAre("j-1 step 3", "j-1 done"));
}

TEST_F(WorkerPoolTest, ADeadWorkersJobIsLostAndItIsStartedAgainLaterEachTime) {
  make();
  for (const auto pause : {1s, 2s, 4s, 5s, 5s}) {  // doubled, up to the limit
    get_ready();
    run("j");
    arrive(ExitStatus{.code = 0, .signal = 9});
    EXPECT_EQ(state(), WorkerState::waiting);
    now_ += pause - 1ms;
    pool_->tick(now_);
    EXPECT_EQ(state(), WorkerState::waiting);
    now_ += 1ms;
    pool_->tick(now_);
    EXPECT_EQ(state(), WorkerState::starting);
  }
  EXPECT_EQ(recorder_.told.size(), 5U);
  EXPECT_THAT(recorder_.told[0], HasSubstr("j crashed: signal 9"));
  get_ready();
  run("good");
  respond("good");  // it works again: the pauses begin anew
  arrive(ExitStatus{.code = 1});
  pass(1s);
  EXPECT_EQ(state(), WorkerState::starting);
}

TEST_F(WorkerPoolTest, AProgramThatIsNotThereIsSaidAndTriedAgain) {
  startable_ = false;
  make();
  EXPECT_EQ(pool_->last_trouble(), "no such program");
  startable_ = true;
  pass(4s);
  EXPECT_EQ(state(), WorkerState::waiting);
  pass(1s);
  EXPECT_EQ(state(), WorkerState::starting);
}

TEST_F(WorkerPoolTest, AWorkerThatAnswersNothingIsAskedToGoAndThenKilled) {
  make();
  get_ready();
  run("j");
  for (int i = 0; i < 3; ++i) pass(10s);  // three questions
  EXPECT_FALSE(deeds_[0]->terminated);
  pass(10s);
  EXPECT_TRUE(deeds_[0]->terminated);
  EXPECT_EQ(state(), WorkerState::stopping);
  pass(2s);
  EXPECT_FALSE(deeds_[0]->killed);
  pass(1s);
  EXPECT_TRUE(deeds_[0]->killed);
  arrive(ExitStatus{.code = 0, .signal = 9});
  EXPECT_THAT(recorder_.told, ElementsAre("j crashed: it answered nothing for 30 s"));
}

TEST_F(WorkerPoolTest, AWorkerThatAnswersLivesHoweverLongItsJobTakes) {
  make();
  get_ready();
  run("j");
  for (int i = 0; i < 15; ++i) {
    pass(10s);
    answer_status();
  }
  EXPECT_FALSE(deeds_[0]->terminated);
}

TEST_F(WorkerPoolTest, AJobThatIsNotGivenUpInTimeEndsWithItsWorker) {
  make();
  get_ready();
  run("j");
  for (int i = 0; i < 16; ++i) {  // its timeout of 60 s and the patience of 100 s
    EXPECT_FALSE(deeds_[0]->terminated);
    pass(10s);
    answer_status();
  }
  EXPECT_TRUE(deeds_[0]->terminated);
  respond("j", {}, Error{ErrorCode::cancelled, "the worker shut down"});  // says less than we know
  EXPECT_THAT(recorder_.told, IsEmpty());
  arrive(ExitStatus{});
  EXPECT_THAT(recorder_.told, ElementsAre("j timed out: it did not give up a job whose time was over within 100 s"));
}

TEST_F(WorkerPoolTest, ACancelledJobHasThePatienceAndNoMore) {
  make();
  get_ready();
  run("j");
  pool_->cancel("other", now_);
  EXPECT_EQ(deeds_[0]->sent.size(), 1U);
  pool_->cancel("j", now_);
  ASSERT_EQ(deeds_[0]->sent.size(), 2U);
  EXPECT_EQ(std::get<CancelJob>(deeds_[0]->sent[1].body).target, "j");
  for (int i = 0; i < 10; ++i) {
    pass(10s);
    answer_status();
  }
  EXPECT_TRUE(deeds_[0]->terminated);
  arrive(ExitStatus{});
  EXPECT_THAT(recorder_.told, ElementsAre("j cancelled: it did not give up a job that was cancelled within 100 s"));
}

TEST_F(WorkerPoolTest, WhatMakesNoSenseIsLoggedAndHarmsNothing) {
  make();
  get_ready();
  run("j");
  arrive(Garbage{"\"xyz\""});
  respond("nobody");
  arrive(WorkerMessage(Event{"somebody else", Progress{"denoise", 1, 2, 0, ""}}));
  respond("j");
  respond("j");  // twice
  get_ready();   // in the middle of things
  EXPECT_THAT(recorder_.told, ElementsAre("j done"));
  EXPECT_THAT(recorder_.logged, ElementsAre(HasSubstr("sent what is no message: \"xyz\""), HasSubstr("\"nobody\""),
                                            HasSubstr("\"j\", which nobody waits for")));
  EXPECT_EQ(state(), WorkerState::idle);
}

TEST_F(WorkerPoolTest, AQuestionGoesToAnIdleWorkerAndDiesWithIt) {
  make(2);
  std::vector<std::string> answers;
  const auto note = [&](const Result<ResponseData>& data) {
    answers.push_back(data ? "answer" : std::string(name_of(data.error().code)));
  };
  pool_->ask(ListModels{}, note);  // nobody is there
  get_ready(0);
  get_ready(1);
  run("j", "m", 0);
  pool_->ask(ListModels{}, note);
  ASSERT_EQ(deeds_[1]->sent.size(), 1U);
  arrive(WorkerMessage(Response{.request_id = deeds_[1]->sent[0].request_id, .data = ModelList{}}), 1);
  pool_->ask(ListModels{}, note);
  arrive(ExitStatus{.code = 1}, 1);
  EXPECT_THAT(answers, ElementsAre("worker_lost", "answer", "worker_lost"));
}

TEST_F(WorkerPoolTest, AModelIsWarmOnceItWasUsedAndAsLongAsTheWorkerHasIt) {
  make();
  get_ready();
  EXPECT_GT(pool_->sights(now_)[0].seconds_since_load, 1e6);
  run("1", "a");
  EXPECT_EQ(pool_->sights(now_)[0].loading, "a");
  arrive(WorkerMessage(Event{"1", Progress{"load", 0, 0, 0, ""}}));
  EXPECT_EQ(pool_->sights(now_)[0].loading, "a");
  arrive(WorkerMessage(Event{"1", Progress{"denoise", 1, 2, 0, ""}}));
  EXPECT_EQ(pool_->sights(now_)[0].loading, "");
  respond("1");
  now_ += 7s;
  EXPECT_EQ(pool_->sights(now_)[0].seconds_since_load, 7.0);
  run("2", "b");
  respond("2");
  run("3", "a");
  EXPECT_EQ(pool_->sights(now_)[0].loading, "");  // it is warm
  respond("3");
  EXPECT_THAT(pool_->sights(now_)[0].warm, ElementsAre("a", "b"));
  answer_status(1);  // there was room for one
  EXPECT_THAT(pool_->sights(now_)[0].warm, ElementsAre("a"));
  arrive(ExitStatus{});
  EXPECT_THAT(pool_->sights(now_)[0].warm, IsEmpty());
}

TEST_F(WorkerPoolTest, AModelIsLoadedAheadByOneWorkerAndUnloadedByAllThatHaveIt) {
  make(2);
  std::vector<std::string> done;
  const auto note = [&](const Result<void>& how) {
    done.push_back(how ? "done" : std::string(name_of(how.error().code)));
  };
  pool_->load("a", note);  // nobody is there
  get_ready(0);
  get_ready(1);
  run("1", "b", 0);
  pool_->load("a", note);
  ASSERT_EQ(deeds_[1]->sent.size(), 1U);  // the idle one
  EXPECT_EQ(std::get<LoadModel>(deeds_[1]->sent[0].body).model, "a");
  EXPECT_THAT(done, ElementsAre("worker_lost"));
  const auto answer = [&](std::size_t worker, ResponseData data, std::optional<Error> error = std::nullopt) {
    Response response{.request_id = deeds_[worker]->sent.back().request_id, .data = std::move(data)};
    if (error) response.refusal = Refusal{*error, {}};
    arrive(WorkerMessage(std::move(response)), worker);
  };
  answer(1, ModelLoaded{"a"});
  EXPECT_THAT(pool_->sights(now_)[1].warm, ElementsAre("a"));
  pool_->load("a", note);  // one has it
  EXPECT_THAT(done, ElementsAre("worker_lost", "done", "done"));
  EXPECT_EQ(deeds_[1]->sent.size(), 1U);

  pool_->unload("c", note);  // nobody has it
  EXPECT_EQ(done.size(), 4U);
  pool_->unload("a", note);
  EXPECT_EQ(std::get<UnloadModel>(deeds_[1]->sent.back().body).model, "a");
  EXPECT_EQ(done.size(), 4U);
  answer(1, {}, Error{ErrorCode::not_found, "it went by itself"});
  EXPECT_EQ(done.back(), "done");
  EXPECT_THAT(pool_->sights(now_)[1].warm, IsEmpty());

  // While it is being loaded it is there already, and is let go of after that.
  pool_->load("e", note);
  pool_->unload("e", note);
  ASSERT_GE(deeds_[1]->sent.size(), 2U);
  const std::string loading = deeds_[1]->sent[deeds_[1]->sent.size() - 2].request_id;
  arrive(WorkerMessage(Response{.request_id = loading, .data = ModelLoaded{"e"}}), 1);
  EXPECT_THAT(pool_->sights(now_)[1].warm, ElementsAre("e"));
  answer(1, ModelUnloaded{"e"});
  EXPECT_THAT(pool_->sights(now_)[1].warm, IsEmpty());
  EXPECT_EQ(std::count(done.begin(), done.end(), "done"), 6);

  pool_->load("d", note);
  answer(1, {}, Error{ErrorCode::corrupt_data, "no model"});
  EXPECT_EQ(done.back(), "corrupt_data");
  EXPECT_THAT(pool_->sights(now_)[1].warm, IsEmpty());
}

TEST_F(WorkerPoolTest, AFailedJobMakesNoModelWarm) {
  make();
  get_ready();
  run("1", "a");
  respond("1", {}, Error{ErrorCode::not_found, "no such model"});
  EXPECT_THAT(pool_->sights(now_)[0].warm, IsEmpty());
  EXPECT_TRUE(pool_->sights(now_)[0].idle);
}

// --- Several jobs at once ---

TEST_F(WorkerPoolTest, AWorkerIsFreeWhenAllJobsOfABatchAreDone) {
  make();
  get_ready();
  run_together({"a", "b", "c"});
  EXPECT_EQ(deeds_[0]->sent.size(), 3U);
  EXPECT_EQ(pool_->stats()[0].job, "a");
  arrive(WorkerMessage(Event{"b", Progress{.stage = "denoise", .step = 2}}));
  respond("b");
  respond("a");
  EXPECT_EQ(state(), WorkerState::busy);
  EXPECT_EQ(pool_->stats()[0].job, "c");
  respond("c");
  EXPECT_EQ(state(), WorkerState::idle);
  EXPECT_THAT(recorder_.told, ElementsAre("b step 2", "b done", "a done", "c done"));
}

TEST_F(WorkerPoolTest, AWorkerThatDiesLosesAllJobsOfABatch) {
  make();
  get_ready();
  run_together({"a", "b"});
  arrive(ExitStatus{.code = 3});
  EXPECT_THAT(recorder_.told, ElementsAre(HasSubstr("a crashed"), HasSubstr("b crashed")));
}

TEST_F(WorkerPoolTest, AJobThatIsNotGivenUpDisturbsTheOthersAndIsNotTheirFault) {
  make();
  get_ready();
  run_together({"a", "b"});
  pool_->cancel("b", now_);
  for (int i = 0; i < 10; ++i) {
    pass(10s);
    answer_status();
  }
  EXPECT_TRUE(deeds_[0]->terminated);
  arrive(ExitStatus{.signal = 15});
  EXPECT_THAT(recorder_.told, ElementsAre(HasSubstr("a disturbed"), HasSubstr("b cancelled")));
}

TEST_F(WorkerPoolTest, ABatchHasTheTimeOfItsJobsOneBehindTheOther) {
  make();
  get_ready();
  run_together({"a", "b"});
  for (int i = 0; i < 15; ++i) {
    pass(10s);
    answer_status();
  }
  EXPECT_FALSE(deeds_[0]->terminated);
  pass(10s);  // 60 s of the first and the patience
  EXPECT_TRUE(deeds_[0]->terminated);
}

TEST_F(WorkerPoolTest, StoppingLetsIdleOnesEndAndTellsNothingMore) {
  make(2);
  get_ready(0);
  get_ready(1);
  run("j", "m", 1);
  pool_->stop(now_);
  EXPECT_TRUE(deeds_[0]->closed);
  EXPECT_FALSE(deeds_[0]->terminated);
  EXPECT_TRUE(deeds_[1]->terminated);
  arrive(ExitStatus{}, 0);
  EXPECT_FALSE(pool_->stopped());
  pass(3s);
  EXPECT_TRUE(deeds_[1]->killed);
  arrive(ExitStatus{}, 1);
  EXPECT_TRUE(pool_->stopped());
  pass(3600s);
  EXPECT_EQ(deeds_.size(), 2U);  // none was started again
  EXPECT_THAT(recorder_.told, IsEmpty());
}

TEST_F(WorkerPoolTest, ItKnowsWhenItHasSomethingToDo) {
  make();
  EXPECT_EQ(pool_->next_due(), now_ + 100s);
  get_ready();
  EXPECT_EQ(pool_->next_due(), now_ + 10s);
  arrive(ExitStatus{});
  EXPECT_EQ(pool_->next_due(), now_ + 1s);
}

}  // namespace
}  // namespace darkroom
