// The whole of it, with processes for workers that do as their prompts say (tests/fakes).
#include "service/jobs/jobs.h"

#include <atomic>
#include <csignal>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/subprocess.h"
#include "protocol/line_channel.h"
#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace std::chrono_literals;

class JobsTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("jobs");
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    options_.service.data = (directory_ / "data").string();
    options_.outputs = directory_ / "outputs";
    options_.worker = fs::path(DARKROOM_BINARY_DIR) / "bin" / "rogue-worker";
    options_.log = [this](LogLevel, const std::string& message) {
      const std::lock_guard lock(log_mutex_);
      log_.push_back(message);
    };
    options_.webhook_secret = [](const std::string&) { return std::nullopt; };
    options_.first_restart = 10ms;
    options_.grace = 100ms;
  }
  void TearDown() override {
    jobs_.reset();
    fs::remove_all(directory_);
  }

  void start() {
    Result<std::unique_ptr<Jobs>> jobs = Jobs::start(options_);
    ASSERT_TRUE(jobs) << jobs.error().message;
    jobs_ = std::move(*jobs);
  }
  void restart() {
    jobs_.reset();
    start();
  }
  static Submission asking(const std::string& prompt) {
    Submission submission;
    submission.spec.model = "m";
    submission.spec.prompt = prompt;
    submission.spec.seed = 7;
    submission.spec.steps = 3;
    return submission;
  }
  std::string submit(const Submission& submission) {
    const Result<Submitted> submitted = jobs_->submit(submission);
    EXPECT_TRUE(submitted) << submitted.error().message;
    return submitted->job.id;
  }
  std::string submit(const std::string& prompt) { return submit(asking(prompt)); }
  JobView end_of(const std::string& job) {
    const Result<JobView> view = jobs_->wait(job, std::chrono::steady_clock::now() + 10min);
    EXPECT_TRUE(view) << view.error().message;
    EXPECT_TRUE(is_finished(view->status));
    return *view;
  }
  JobView get(const std::string& job) {
    const Result<JobView> view = jobs_->get(job);
    EXPECT_TRUE(view) << view.error().message;
    return *view;
  }
  void wait_until(const std::function<bool()>& condition) {
    while (!condition()) std::this_thread::sleep_for(2ms);
  }
  void wait_until_running(const std::string& job) {
    wait_until([&] {
      const JobView view = get(job);
      EXPECT_FALSE(is_finished(view.status)) << "too late";
      return view.progress.step > 0 || is_finished(view.status);
    });
  }
  std::string bytes_of(const Picture& picture) const {
    std::ifstream file(jobs_->picture_file(picture));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> starts() const {
    std::ifstream file(directory_ / "data" / "starts");
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }
  std::size_t files_in(const fs::path& folder) const {
    return static_cast<std::size_t>(
        std::count_if(fs::recursive_directory_iterator(folder), {}, [](const auto& e) { return !e.is_directory(); }));
  }
  std::vector<std::string> logged() {
    const std::lock_guard lock(log_mutex_);
    return log_;
  }

  fs::path directory_;
  JobsOptions options_;
  std::mutex log_mutex_;
  std::vector<std::string> log_;
  std::unique_ptr<Jobs> jobs_;
};

// --- The ordinary way ---

TEST_F(JobsTest, AJobIsDoneAndItsPicturesAreKept) {
  start();
  Submission asked = asking("a lake");
  asked.spec.batch_size = 2;
  asked.options.tags = {"t"};
  const Result<Submitted> submitted = jobs_->submit(asked);
  ASSERT_TRUE(submitted) << submitted.error().message;
  EXPECT_EQ(submitted->job.status, JobStatus::queued);
  EXPECT_EQ(submitted->job.id.size(), 32U);
  const JobView job = end_of(submitted->job.id);
  EXPECT_EQ(job.status, JobStatus::succeeded);
  EXPECT_EQ(job.attempt, 1);
  EXPECT_EQ(job.metrics.device_name, "rogue");
  ASSERT_EQ(job.pictures.size(), 2U);
  EXPECT_EQ(bytes_of(job.pictures[0]), "7 a lake");
  EXPECT_EQ(bytes_of(job.pictures[1]), "8 a lake");
  EXPECT_EQ(job.pictures[1].seed, 8U);
  EXPECT_EQ(job.pictures[1].bytes, 8U);
  EXPECT_EQ(files_in(directory_ / "data" / "spool"), 0U);
  EXPECT_EQ(jobs_->request(job.id)->spec.prompt, "a lake");

  const JobsStats stats = jobs_->stats();
  EXPECT_EQ(stats.admitted, 1U);
  EXPECT_EQ(stats.ended.at(JobStatus::succeeded), 1U);
  EXPECT_EQ(stats.pictures, 2U);
  EXPECT_EQ(stats.model_loads, 1U);
  EXPECT_EQ(stats.stages.at("denoise").count, 1U);
  EXPECT_EQ(stats.blob_bytes, 16U);
  EXPECT_EQ(jobs_->usage("").pictures_today, 2U);
}

TEST_F(JobsTest, ManyJobsByManyWorkersEndOnceEach) {
  options_.service.workers = 3;
  start();
  std::vector<std::string> jobs;
  for (int i = 0; i < 30; ++i) {
    Submission asked = asking("a lake");
    asked.spec.model = fmt::format("m{}", i % 3);
    jobs.push_back(submit(asked));
  }
  for (const std::string& job : jobs) EXPECT_EQ(end_of(job).status, JobStatus::succeeded);
  EXPECT_EQ(starts().size(), 30U);
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 30U);
}

TEST_F(JobsTest, TheRealWorkerDoesJobsToo) {
  options_.worker = fs::path(DARKROOM_BINARY_DIR) / "bin" / "fake-worker";  // darkroom-worker around a fake engine
  options_.worker_arguments = {"--models", (directory_ / "models").string()};
  fs::create_directories(directory_ / "models" / "checkpoints");
  std::ofstream(directory_ / "models" / "checkpoints" / "m.safetensors") << "x";
  start();
  Submission asked = asking("a lake");
  asked.spec.width = asked.spec.height = 256;
  const JobView job = end_of(submit(asked));
  ASSERT_EQ(job.status, JobStatus::succeeded) << job.failure->error.message;
  EXPECT_THAT(bytes_of(job.pictures[0]), testing::StartsWith("\x89PNG"));
  EXPECT_EQ(files_in(directory_ / "data" / "spool"), 0U);

  asked.spec.prompt = "crash";
  const JobView poison = end_of(submit(asked));
  EXPECT_EQ(poison.failure->error.code, ErrorCode::worker_lost);
  EXPECT_THAT(poison.failure->error.message, HasSubstr("signal 6"));
  asked.spec.prompt = "fail";
  EXPECT_EQ(end_of(submit(asked)).failure->error.code, ErrorCode::corrupt_data);
  asked.spec.prompt = "a lake";
  EXPECT_EQ(end_of(submit(asked)).status, JobStatus::succeeded);
}

TEST_F(JobsTest, ASavePathIsWrittenTooAndMayNotLeadOut) {
  start();
  Submission asked = asking("a lake");
  asked.spec.output.path = "album/a.png";
  asked.spec.batch_size = 2;
  const JobView job = end_of(submit(asked));
  EXPECT_EQ(job.pictures[1].saved, (fs::weakly_canonical(directory_) / "outputs/album/a-1.png").string());
  EXPECT_TRUE(fs::exists(directory_ / "outputs/album/a-0.png"));
  for (const char* path : {"../a.png", "/etc/a.png", "album/../../a.png"}) {
    asked.spec.output.path = path;
    const Result<Submitted> refused = jobs_->submit(asked);
    ASSERT_FALSE(refused) << path;
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
  }
}

TEST_F(JobsTest, RequestsThatCannotBeDoneAreRefused) {
  options_.worker_line_bytes = 2'000'000;
  options_.service.queue = 1;
  start();
  Submission asked = asking("a lake");
  asked.webhook.url = "ftp://example.org/";
  EXPECT_EQ(jobs_->submit(asked).error().code, ErrorCode::invalid_argument);
  asked = asking("a lake");
  asked.spec.init_image = ImageSource{.path = "", .bytes = std::string(1'000'000, 'x')};
  EXPECT_THAT(jobs_->submit(asked).error().message, HasSubstr("worker.line_bytes"));
  const std::string running = submit("deaf");
  wait_until([&] { return get(running).status == JobStatus::running; });
  submit("waits");
  EXPECT_EQ(jobs_->submit(asking("too many")).error().code, ErrorCode::overloaded);
  EXPECT_EQ(jobs_->stats().refused, 1U);
}

TEST_F(JobsTest, AskingForTooMuchOrNothingIsRefused) {
  start();
  for (const int limit : {0, -1, 1001}) {
    EXPECT_EQ(jobs_->list({}, "", limit).error().code, ErrorCode::invalid_argument) << limit;
  }
  Submission asked = asking("a lake");
  asked.caller.weight = 0.0;
  EXPECT_EQ(jobs_->submit(asked).error().code, ErrorCode::invalid_argument);
}

TEST_F(JobsTest, ATokenMakesOneJob) {
  start();
  Submission asked = asking("a lake");
  asked.idempotency_token = "t";
  asked.echo = "the request";
  const std::string job = submit(asked);
  asked.spec.seed = 9;  // a random one, drawn anew: what was sent is the same
  const Result<Submitted> again = jobs_->submit(asked);
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->repeated);
  EXPECT_EQ(again->job.id, job);
  asked.echo = "another request";
  EXPECT_EQ(jobs_->submit(asked).error().code, ErrorCode::conflict);
  asked.echo = "";  // then the spec decides
  EXPECT_EQ(jobs_->submit(asked).error().code, ErrorCode::conflict);
  end_of(job);
  EXPECT_EQ(starts().size(), 1U);
}

TEST_F(JobsTest, AFinishedJobIsRemovedWithItsPictures) {
  start();
  const std::string job = submit("a lake");
  end_of(job);
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 1U);
  ASSERT_TRUE(jobs_->remove(job));
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 0U);
  EXPECT_EQ(jobs_->get(job).error().code, ErrorCode::not_found);
}

// --- Batches ---

TEST_F(JobsTest, JobsOfOneClassAreGivenToAWorkerTogether) {
  options_.batch = 4;
  start();
  const std::string first = submit("slow");
  wait_until([&] { return get(first).status == JobStatus::running; });
  std::vector<std::string> jobs;
  for (int i = 0; i < 4; ++i) jobs.push_back(submit("slow"));
  Submission other = asking("slow");
  other.spec.width = 512;
  jobs.push_back(submit(other));
  wait_until([&] { return get(jobs[3]).attempt == 1; });
  for (int i = 0; i < 4; ++i) EXPECT_EQ(get(jobs[static_cast<std::size_t>(i)]).started, get(jobs[3]).started) << i;
  EXPECT_EQ(get(jobs[4]).status, JobStatus::queued);
  for (const std::string& job : jobs) EXPECT_EQ(end_of(job).status, JobStatus::succeeded);
  EXPECT_EQ(jobs_->stats().model_loads, 1U);
}

TEST_F(JobsTest, OneOfABatchIsCancelledAndTheOthersGoOn) {
  options_.batch = 4;
  start();
  const std::string first = submit("slow");
  wait_until([&] { return get(first).status == JobStatus::running; });
  std::vector<std::string> jobs;
  for (int i = 0; i < 3; ++i) jobs.push_back(submit("slow"));
  wait_until([&] { return get(jobs[2]).attempt == 1; });
  ASSERT_TRUE(jobs_->cancel(jobs[1]));
  EXPECT_EQ(end_of(jobs[0]).status, JobStatus::succeeded);
  EXPECT_EQ(end_of(jobs[1]).status, JobStatus::cancelled);
  EXPECT_EQ(end_of(jobs[2]).status, JobStatus::succeeded);
}

TEST_F(JobsTest, APoisonousJobTakesItsBatchWithItOnceAndThenGoesAlone) {
  options_.batch = 4;
  start();
  const std::string first = submit("slow");
  wait_until([&] { return get(first).status == JobStatus::running; });
  const std::string before = submit("slow");
  const std::string poison = submit("exit");
  const std::string after = submit("slow");
  EXPECT_EQ(end_of(poison).failure->error.code, ErrorCode::worker_lost);
  EXPECT_EQ(end_of(before).status, JobStatus::succeeded);
  EXPECT_EQ(end_of(after).status, JobStatus::succeeded);
  EXPECT_LE(get(after).crashes, 1);
  EXPECT_EQ(get(poison).crashes, 2);
}

TEST_F(JobsTest, ModelsAndSchedulersAreWhatAWorkerSays) {
  start();
  Result<std::vector<ModelEntry>> models = jobs_->models();
  for (; !models; models = jobs_->models()) std::this_thread::sleep_for(2ms);  // no worker is ready yet
  ASSERT_EQ(models->size(), 1U);
  EXPECT_EQ((*models)[0].name, "one");
  EXPECT_THAT(*jobs_->schedulers(), ElementsAre("EulerDiscreteScheduler"));
  EXPECT_TRUE(jobs_->ready());
}

TEST_F(JobsTest, AServiceWhoseWorkersDoNotStartSaysWhy) {
  options_.worker_arguments = {"--broken"};
  start();
  wait_until([&] {
    const Result<void> ready = jobs_->ready();
    return !ready && ready.error().message.find("exit status 7") != std::string::npos;
  });
  EXPECT_EQ(jobs_->models().error().code, ErrorCode::worker_lost);
}

TEST_F(JobsTest, TicketsOpenTheirPictureAlsoAfterARestart) {
  start();
  const std::string ticket = jobs_->ticket("job", 0, std::chrono::system_clock::now() + 1h);
  restart();
  EXPECT_TRUE(jobs_->ticket_is_valid("job", 0, ticket));
  EXPECT_FALSE(jobs_->ticket_is_valid("job", 1, ticket));
}

// --- Events ---

TEST_F(JobsTest, EventsTellAJobsWayInOrder) {
  start();
  const std::string blocker = submit("slow");
  wait_until_running(blocker);
  const std::string job = submit("slow");
  std::mutex mutex;
  std::vector<JobEvent> events;
  Result<Subscription> subscription = jobs_->subscribe(job, "", [&](const JobEvent& event) {
    const std::lock_guard lock(mutex);
    events.push_back(event);
  });
  ASSERT_TRUE(subscription);
  end_of(job);
  wait_until([&] {
    const std::lock_guard lock(mutex);
    return events.back().kind == JobEventKind::ended;
  });
  const std::lock_guard lock(mutex);
  std::vector<JobEventKind> kinds;
  std::set<std::string> ids;
  for (const JobEvent& event : events) {
    EXPECT_EQ(event.job.id, job);
    EXPECT_TRUE(ids.insert(event.id).second) << event.id;
    if (kinds.empty() || kinds.back() != event.kind) kinds.push_back(event.kind);
  }
  EXPECT_THAT(kinds,
              ElementsAre(JobEventKind::queued, JobEventKind::started, JobEventKind::progress, JobEventKind::ended));
  EXPECT_EQ(events.front().job.position, 0);
  EXPECT_EQ(events.back().job.pictures.size(), 1U);
}

TEST_F(JobsTest, PreviewsReachTheListener) {
  start();
  const std::string blocker = submit("slow");
  wait_until_running(blocker);
  Submission asked = asking("a lake");
  asked.spec.output.preview_every = 1;
  const std::string job = submit(asked);
  std::vector<std::string> previews;
  const Result<Subscription> subscription = jobs_->subscribe(job, "", [&](const JobEvent& event) {
    EXPECT_EQ(event.job.progress.preview, "");
    if (event.kind == JobEventKind::preview) previews.push_back(event.preview);
  });
  end_of(job);
  EXPECT_THAT(previews, ElementsAre("after step 1", "after step 2", "after step 3"));
}

TEST_F(JobsTest, WhoAsksSeesTheLastPreview) {
  start();
  Submission asked = asking("slow");
  asked.spec.output.preview_every = 1;
  asked.spec.steps = 150;
  const std::string job = submit(asked);
  wait_until_running(job);
  EXPECT_THAT(get(job).progress.preview, testing::StartsWith("data:image/jpeg;base64,"));
  jobs_->cancel(job);
}

TEST_F(JobsTest, ControlMapsAreKeptBesideThePictures) {
  start();
  Submission asked = asking("a lake");
  asked.spec.output.save_control_maps = true;
  asked.spec.output.path = "a.png";
  const JobView job = end_of(submit(asked));
  ASSERT_EQ(job.control_maps.size(), 1U);
  EXPECT_EQ(bytes_of(job.control_maps[0]), "a map");
  EXPECT_EQ(job.pictures.size(), 1U);
  EXPECT_TRUE(fs::exists(directory_ / "outputs/a.png"));
  EXPECT_TRUE(fs::exists(directory_ / "outputs/a-control-0.png"));
  ASSERT_TRUE(jobs_->remove(job.id));
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 0U);
}

TEST_F(JobsTest, WhoComesBackGetsASnapshotUnlessHeHasSeenIt) {
  start();
  const std::string running = submit("deaf");
  wait_until([&] { return get(running).status == JobStatus::running; });
  const std::string job = submit("a lake");
  std::vector<std::string> ids;
  const auto note = [&](const JobEvent& event) { ids.push_back(event.id); };
  { const auto subscription = jobs_->subscribe(job, "", note); }
  ASSERT_EQ(ids.size(), 1U);
  { const auto subscription = jobs_->subscribe(job, ids[0], note); }
  EXPECT_EQ(ids.size(), 1U);
  { const auto subscription = jobs_->subscribe(job, "older", note); }
  EXPECT_EQ(ids.size(), 2U);
  jobs_->cancel(job);
  { const auto subscription = jobs_->subscribe(job, ids[0], note); }
  EXPECT_EQ(ids.back(), "ended");
  { const auto subscription = jobs_->subscribe(job, "ended", note); }  // told again, or he would wait for ever
  EXPECT_EQ(ids.size(), 4U);
  EXPECT_EQ(jobs_->subscribe("nothing", "", note).error().code, ErrorCode::not_found);
}

TEST_F(JobsTest, WaitingEndsAtTheDeadlineWithTheJobAsItIs) {
  start();
  const std::string job = submit("deaf");
  const Result<JobView> view = jobs_->wait(job, std::chrono::steady_clock::now() + 10ms);
  ASSERT_TRUE(view);
  EXPECT_FALSE(is_finished(view->status));
  EXPECT_EQ(jobs_->wait("nothing", {}).error().code, ErrorCode::not_found);
}

// --- Cancelling ---

TEST_F(JobsTest, AQueuedJobIsCancelledAtOnceAndNeverStarted) {
  start();
  const std::string blocker = submit("slow");
  wait_until_running(blocker);
  const std::string job = submit("never");
  EXPECT_EQ(jobs_->cancel(job)->status, JobStatus::cancelled);
  end_of(blocker);
  end_of(submit("last"));
  EXPECT_THAT(starts(), ElementsAre("slow", "last"));
}

TEST_F(JobsTest, ARunningJobIsCancelledWithinAStep) {
  start();
  Submission asked = asking("slow");
  asked.spec.steps = 150;
  const std::string job = submit(asked);
  wait_until_running(job);
  EXPECT_TRUE(jobs_->cancel(job)->cancel_asked);
  const JobView view = end_of(job);
  EXPECT_EQ(view.status, JobStatus::cancelled);
  EXPECT_EQ(view.failure->error.code, ErrorCode::cancelled);
  EXPECT_EQ(jobs_->cancel(job)->status, JobStatus::cancelled);
  EXPECT_EQ(jobs_->stats().ended.at(JobStatus::cancelled), 1U);
}

TEST_F(JobsTest, AJobThatDoesNotLetItselfBeCancelledEndsWithItsWorker) {
  options_.service.patience = 1;
  start();
  const std::string job = submit("stubborn");
  wait_until([&] { return starts().size() == 1U; });
  jobs_->cancel(job);
  EXPECT_EQ(end_of(job).status, JobStatus::cancelled);
  EXPECT_EQ(end_of(submit("a lake")).status, JobStatus::succeeded);
}

TEST_F(JobsTest, AJobWhoseTimeIsOverEndsWithItsWorker) {
  options_.service.patience = 1;
  start();
  Submission asked = asking("stubborn");
  asked.options.timeout = 1;
  const JobView view = end_of(submit(asked));
  EXPECT_EQ(view.status, JobStatus::failed);
  EXPECT_EQ(view.failure->error.code, ErrorCode::timed_out);
  EXPECT_EQ(view.attempt, 1);
}

// --- What goes wrong with workers ---

TEST_F(JobsTest, AJobWhoseWorkerIsKilledRunsAgainWithTheSameSeed) {
  start();
  Submission asked = asking("slow");
  asked.spec.steps = 20;
  const std::string job = submit(asked);
  wait_until_running(job);
  const std::vector<WorkerStats> workers = jobs_->stats().workers;
  ASSERT_EQ(workers[0].job, job);
  ::kill(workers[0].pid, SIGKILL);
  const JobView view = end_of(job);
  EXPECT_EQ(view.status, JobStatus::succeeded);
  EXPECT_EQ(view.attempt, 2);
  EXPECT_EQ(view.crashes, 1);
  EXPECT_EQ(bytes_of(view.pictures.at(0)), "7 slow");
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 1U);
}

TEST_F(JobsTest, AJobThatKillsTwoWorkersIsFailedAndTheOthersGoOn) {
  start();
  const std::string poison = submit("exit");
  const std::string once = submit("exitonce");
  const std::string good = submit("a lake");
  const JobView view = end_of(poison);
  EXPECT_EQ(view.status, JobStatus::failed);
  EXPECT_EQ(view.failure->error.code, ErrorCode::worker_lost);
  EXPECT_THAT(view.failure->error.message, HasSubstr("attempt 1: exit status 3; attempt 2: exit status 3"));
  EXPECT_EQ(end_of(once).status, JobStatus::succeeded);
  EXPECT_EQ(end_of(once).attempt, 2);
  EXPECT_EQ(end_of(good).attempt, 1);
  EXPECT_EQ(jobs_->stats().crashes, 3U);
}

TEST_F(JobsTest, AWorkerThatHangsIsKilledAndItsJobFailsAtTheSecondTime) {
  options_.service.heartbeat = 1;
  start();
  const JobView view = end_of(submit("deaf"));
  EXPECT_EQ(view.failure->error.code, ErrorCode::worker_lost);
  EXPECT_THAT(view.failure->error.message, HasSubstr("answered nothing for 3 s"));
}

TEST_F(JobsTest, GarbageAndDoubleAndStrayAnswersHarmNothing) {
  start();
  for (const char* prompt : {"garbage", "twice", "stray", "garbage twice stray"}) {
    const JobView view = end_of(submit(prompt));
    EXPECT_EQ(view.status, JobStatus::succeeded) << prompt;
    EXPECT_EQ(view.attempt, 1);
    EXPECT_EQ(view.pictures.size(), 1U);
  }
  end_of(submit("after them"));
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 5U);
  EXPECT_THAT(logged(), Contains(HasSubstr("sent what is no message")));
  EXPECT_THAT(logged(), Contains(HasSubstr("which nobody waits for")));
}

TEST_F(JobsTest, AWorkerThatWasToldToGoByOthersCountsAsCrashed) {
  start();
  const JobView view = end_of(submit("leave"));
  EXPECT_EQ(view.failure->error.code, ErrorCode::worker_lost);
  EXPECT_THAT(view.failure->error.message, HasSubstr("attempt 1: told to end; attempt 2: told to end"));
}

TEST_F(JobsTest, APictureThatIsNotAllThereIsNone) {
  start();
  const JobView view = end_of(submit("short"));
  EXPECT_EQ(view.status, JobStatus::failed);
  EXPECT_THAT(view.failure->error.message, HasSubstr("has 7 bytes, it has 6"));
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 0U);
}

TEST_F(JobsTest, OnlyFilesOfTheSpoolBecomePictures) {
  start();
  for (const char* prompt : {"link", "nofile"}) {
    const JobView view = end_of(submit(prompt));
    EXPECT_EQ(view.status, JobStatus::failed) << prompt;
    EXPECT_THAT(view.pictures, IsEmpty());
  }
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 0U);
}

TEST_F(JobsTest, ADiskThatTakesNoPicturesFailsTheJobCleanly) {
  start();
  const fs::path pictures = directory_ / "data" / "pictures";
  end_of(submit("a lake"));
  // A file where the folder was: nobody, not even root, can write into it.
  fs::rename(pictures, directory_ / "away");
  std::ofstream(pictures) << "x";
  const JobView view = end_of(submit("slow"));
  EXPECT_EQ(view.status, JobStatus::failed);
  EXPECT_THAT(view.failure->error.message, HasSubstr("pictures"));
  EXPECT_EQ(files_in(directory_ / "data" / "spool"), 0U);
  fs::remove(pictures);
  fs::rename(directory_ / "away", pictures);
  EXPECT_EQ(end_of(submit("a lake")).status, JobStatus::succeeded);
}

// --- What goes wrong with the service ---

TEST_F(JobsTest, OneServiceHasTheDirectory) {
  start();
  const Result<std::unique_ptr<Jobs>> second = Jobs::start(options_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::conflict);
}

TEST_F(JobsTest, AfterARestartQueuedAndRunningJobsAreDone) {
  start();
  Submission asked = asking("slow");
  asked.spec.steps = 50;
  const std::string running = submit(asked);
  wait_until_running(running);
  const std::string queued = submit("a lake");
  restart();
  EXPECT_EQ(end_of(running).status, JobStatus::succeeded);
  EXPECT_EQ(end_of(queued).status, JobStatus::succeeded);
  EXPECT_EQ(get(running).attempt, 2);
  EXPECT_EQ(get(running).crashes, 0);
  EXPECT_EQ(get(queued).attempt, 1);
  EXPECT_EQ(bytes_of(get(running).pictures[0]), "7 slow");
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 2U);
}

TEST_F(JobsTest, WhenTheServiceIsKilledNothingIsLostAndNothingDoubled) {
  std::set<std::string> jobs;
  constexpr int kKills = 4;
  for (int kill = 0; kill < kKills; ++kill) {
    Result<Subprocess> host = Subprocess::start(fs::path(DARKROOM_BINARY_DIR) / "bin" / "jobs-host",
                                                {options_.service.data, options_.worker.string(), "slow", "a lake"});
    ASSERT_TRUE(host) << host.error().message;
    LineReader reader(host->output(), 1000);
    while (jobs.size() < static_cast<std::size_t>(2 * (kill + 1))) {
      reader.read_some();
      while (const std::optional<Received> line = reader.take()) {
        ASSERT_EQ(line->kind, Received::Kind::line);
        jobs.insert(line->text);
      }
    }
    std::this_thread::sleep_for(kill * 40ms);  // at different moments of a job
    host->send_signal(SIGKILL);
    ASSERT_TRUE(host->wait(10s));
  }
  start();
  for (const std::string& job : jobs) {
    const JobView view = end_of(job);
    ASSERT_EQ(view.status, JobStatus::succeeded) << view.failure->error.message;
    EXPECT_EQ(view.crashes, 0);
    EXPECT_THAT(bytes_of(view.pictures.at(0)), testing::AnyOf("7 slow", "7 a lake"));
  }
  EXPECT_EQ(jobs_->list({}, "", 100)->jobs.size(), jobs.size());
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), jobs.size());
}

TEST_F(JobsTest, ARestartSweepsWhatNoJobKnows) {
  start();
  const JobView job = end_of(submit("a lake"));
  jobs_.reset();
  const fs::path folder = directory_ / "data" / "pictures" / "ab";
  fs::create_directories(folder);
  std::ofstream(folder / ("ab" + std::string(30, '0'))) << "kept just before the end";
  fs::create_directories(directory_ / "data" / "spool" / "x-1");
  std::ofstream(directory_ / "data" / "spool" / "x-1" / "0.png") << "half";
  start();
  EXPECT_EQ(files_in(directory_ / "data" / "pictures"), 1U);
  EXPECT_EQ(files_in(directory_ / "data" / "spool"), 0U);
  EXPECT_EQ(bytes_of(get(job.id).pictures[0]), "7 a lake");
}

TEST_F(JobsTest, DrainingFinishesWhatRunsAndTakesNothingMore) {
  start();
  const std::string running = submit("slow");
  wait_until_running(running);
  const std::string queued = submit("a lake");
  jobs_->drain(std::chrono::steady_clock::now() + 10min);
  EXPECT_EQ(get(running).status, JobStatus::succeeded);
  EXPECT_EQ(get(queued).status, JobStatus::queued);
  EXPECT_EQ(jobs_->submit(asking("more")).error().code, ErrorCode::conflict);
  restart();
  EXPECT_EQ(end_of(queued).status, JobStatus::succeeded);
}

TEST_F(JobsTest, ManyThreadsMayCallAtOnce) {
  options_.service.workers = 2;
  start();
  std::vector<std::thread> threads;
  std::atomic<int> ended = 0;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) {
        Submission asked = asking("a lake");
        asked.caller.key = fmt::format("key{}", t % 3);
        const std::string job = submit(asked);
        const Result<Subscription> subscription = jobs_->subscribe(job, "", [](const JobEvent&) {});
        if (i % 4 == 0) jobs_->cancel(job);
        jobs_->list({.key = asked.caller.key}, "", 5);
        jobs_->stats();
        if (is_finished(end_of(job).status)) ++ended;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ended, 48);
}

}  // namespace
}  // namespace darkroom
