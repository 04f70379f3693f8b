// Everything that can be taken away from a worker, at random moments of a job: no picture is ever there in part, what
// can still be said is said, and nothing is left running.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/e2e/worker/real_worker.h"
#include "tests/support/dice.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kRounds = 12;

class Faults : public RealWorker {
 protected:
  void SetUp() override {
    RealWorker::SetUp();
    put_model("tiny-base", "checkpoints/tiny-base");
    put_model("loras/kohya.safetensors", "loras/kohya.safetensors");
  }

  static json job(const json& more = json::object()) {
    json data = {{"prompt", "a red circle on a blue background"},
                 {"models", {{"base", "tiny-base"}}},
                 {"dimensions", {{"width", 128}, {"height", 96}}},
                 {"hyperparameters", {{"num_inference_steps", 4}, {"seed", 42}}},
                 {"scheduler", "EulerDiscreteScheduler"},
                 {"batch", {{"size", 3}}},
                 {"precision", {{"dtype", "float32"}}}};
    data.merge_patch(more);
    return data;
  }

  // What a job leaves in the outputs directory, by name, and how long it takes, undisturbed.
  void measure() {
    test::WorkerProgram worker = start();
    const auto begin = std::chrono::steady_clock::now();
    worker.send("inference_request", "job", job());
    ASSERT_TRUE(worker.response_to("job")["success"]);
    duration_ = std::chrono::steady_clock::now() - begin;
    whole_ = files();
    ASSERT_EQ(whole_.size(), 3U);
    clear();
    worker.finish();
  }

  std::map<std::string, std::string> files() const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(root_ / "outputs")) {
      if (entry.is_regular_file()) files[entry.path().filename()] = bytes_of(entry.path());
    }
    return files;
  }
  void clear() const {
    for (const auto& [name, bytes] : files()) fs::remove(root_ / "outputs" / name);
  }

  // Nothing but whole pictures under pictures' names; other names are a killed worker's unfinished files.
  void expect_whole_pictures_only() const {
    for (const auto& [name, bytes] : files()) {
      if (name.starts_with(".darkroom-")) continue;
      ASSERT_TRUE(whole_.contains(name)) << name;
      EXPECT_TRUE(bytes == whole_.at(name)) << name << " is not whole";
    }
  }

  // Some moment of the job.
  void wait_a_while(test::Dice& dice) const {
    constexpr std::size_t kMoments = 1000;
    std::this_thread::sleep_for(duration_ * static_cast<double>(dice.below(kMoments)) / static_cast<double>(kMoments));
  }

  // Of the job, read to the end of the worker's output; null where it gave none.
  static json last_answer(test::WorkerProgram& worker) {
    json answer;
    for (json message = worker.next(); !message.is_null(); message = worker.next()) {
      if (message.contains("message_type")) continue;
      EXPECT_TRUE(answer.is_null()) << "answered twice";
      answer = message;
    }
    return answer;
  }

  static std::string ending(test::WorkerProgram& worker) {
    const std::optional<ExitStatus> status = worker.process().wait(std::chrono::seconds(60));
    std::string text = status ? describe(*status) : "still running";
    EXPECT_FALSE(fs::exists(fmt::format("/proc/{}", worker.pid()))) << "a zombie";
    return text;
  }

  std::chrono::duration<double> duration_{};
  std::map<std::string, std::string> whole_;
};

TEST_F(Faults, KillAtAnyMomentLeavesNoPictureInPart) {
  measure();
  test::Dice dice(1);
  for (int i = 0; i < kRounds; ++i) {
    test::WorkerProgram worker = start();
    worker.send("inference_request", "job", job());
    wait_a_while(dice);
    worker.process().send_signal(SIGKILL);
    const json answer = last_answer(worker);
    EXPECT_EQ(ending(worker), "signal 9 (Killed)");
    expect_whole_pictures_only();
    if (!answer.is_null()) {
      EXPECT_EQ(files().size(), whole_.size()) << "answered, but not all is there";
    }
    clear();
  }
}

TEST_F(Faults, SigtermAtAnyMomentIsAnsweredAndLeavesAllPicturesOrNone) {
  measure();
  test::Dice dice(2);
  for (int i = 0; i < kRounds; ++i) {
    test::WorkerProgram worker = start();
    worker.send("inference_request", "job", job());
    json message = worker.next();  // it was accepted
    while (!message.contains("message_type")) message = worker.next();
    wait_a_while(dice);
    worker.process().send_signal(SIGTERM);
    const json answer = last_answer(worker);
    ASSERT_FALSE(answer.is_null()) << "not answered";
    if (answer["success"] == true) {
      EXPECT_TRUE(files() == whole_);
    } else {
      EXPECT_EQ(answer["error_code"], "cancelled");
      EXPECT_THAT(files(), IsEmpty());
    }
    EXPECT_EQ(ending(worker), "exit status 0");
    clear();
  }
}

TEST_F(Faults, InputThatEndsAtAnyMomentIsTheEndOnceTheJobIsDone) {
  measure();
  test::Dice dice(3);
  for (int i = 0; i < kRounds / 2; ++i) {
    test::WorkerProgram worker = start();
    worker.send("inference_request", "job", job());
    wait_a_while(dice);
    worker.process().close_input();
    EXPECT_EQ(last_answer(worker)["success"], true);
    EXPECT_TRUE(files() == whole_);
    EXPECT_EQ(ending(worker), "exit status 0");
    clear();
  }
}

TEST_F(Faults, OutputThatNobodyReadsAtAnyMomentIsTheEnd) {
  measure();
  test::Dice dice(4);
  const Fd nothing{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  for (int i = 0; i < kRounds / 2; ++i) {
    test::WorkerProgram worker = start();
    worker.send("inference_request", "job", job());
    wait_a_while(dice);
    ASSERT_EQ(::dup2(nothing.get(), worker.process().output()), worker.process().output());  // closes the pipe
    if (dice.one_in(2)) worker.process().close_input();
    // A worker whose job was over by then has nothing to say and waits.
    worker.send("status_request", "is anybody there");
    EXPECT_EQ(ending(worker), "exit status 0");
    expect_whole_pictures_only();
    EXPECT_TRUE(files().empty() || files().size() == whole_.size());
    clear();
  }
}

// A directory with room for so many bytes, where the system lets us have one.
class SmallDisk {
 public:
  explicit SmallDisk(fs::path directory) : directory_(std::move(directory)) { fs::create_directories(directory_); }
  ~SmallDisk() {
    if (mounted_) ::umount(directory_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool resize(std::size_t bytes) {
    const std::string options = fmt::format("size={}", bytes);
    const unsigned long how = mounted_ ? MS_REMOUNT : 0;
    const bool done = ::mount("tmpfs", directory_.c_str(), "tmpfs", how, options.c_str()) == 0;
    mounted_ = mounted_ || done;
    return done;
  }

 private:
  fs::path directory_;
  bool mounted_ = false;
};

TEST_F(Faults, ADiskThatIsFullAtAnyByteIsSaidAndLeavesNothing) {
  measure();
  std::size_t bytes = 0;
  for (const auto& [name, content] : whole_) bytes += content.size();
  SmallDisk disk(root_ / "outputs/small");
  constexpr std::size_t kPage = 4096;
  if (!disk.resize(kPage)) GTEST_SKIP() << "no right to mount a file system";
  test::WorkerProgram worker = start();
  test::Dice dice(5);
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_TRUE(disk.resize(kPage + dice.below(bytes)));
    worker.send("inference_request", "job", job({{"output", {{"save_path", "small/"}}}}));
    const json answer = worker.response_to("job");
    ASSERT_FALSE(answer.is_null());
    EXPECT_EQ(answer["success"], false);
    EXPECT_EQ(answer["error_code"], "overloaded");
    EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("No space left on device"));
    EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("outputs/small/job-"));
    EXPECT_TRUE(fs::is_empty(root_ / "outputs/small"));
  }
  ASSERT_TRUE(disk.resize(16 * bytes));
  worker.send("inference_request", "job", job({{"output", {{"save_path", "small/"}}}}));
  EXPECT_EQ(worker.response_to("job")["success"], true);
  EXPECT_EQ(describe(worker.finish()), "exit status 0");
}

TEST_F(Faults, AFileThatMayNotBecomeSoLargeIsSaidAndLeavesNothing) {
  test::WorkerSettings small = settings();
  small.limits = "ulimit -f 8";  // blocks of 512 bytes
  test::WorkerProgram worker(small);
  worker.send("inference_request", "job", job({{"dimensions", {{"width", 128}, {"height", 128}}}}));
  const json answer = worker.response_to("job");
  EXPECT_EQ(answer["error_code"], "overloaded");
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("File too large"));
  EXPECT_THAT(files(), IsEmpty());
  worker.send("status_request", "s");
  EXPECT_EQ(worker.response()["success"], true);
  EXPECT_EQ(describe(worker.finish()), "exit status 0");
}

TEST_F(Faults, ControlPicturesThatCannotBeWrittenTakeThePicturesWithThem) {
  put_model("tiny-controlnet-a", "controlnets/tiny-controlnet-a");
  fs::create_directories(root_ / "outputs/job-control-0.png");  // where a file should be
  test::WorkerProgram worker = start();
  worker.send("inference_request", "job",
              job({{"output", {{"save_control_maps", true}}},
                   {"controlnet",
                    {{"model", "tiny-controlnet-a"},
                     {"control_image", "inputs/control-a.png"},
                     {"preprocessor", {{"enabled", false}}}}},
                   {"resize_mode", "stretch"}}));
  EXPECT_EQ(worker.response_to("job")["success"], false);
  EXPECT_THAT(files(), IsEmpty());
}

// OpenMP would keep the first thread, and all that it starts, on one core.
TEST_F(Faults, AnEnvironmentThatBindsThreadsLeavesThemAllCores) {
  const auto cores_of = [](const fs::path& status) {
    std::ifstream file(status);
    std::string line;
    while (std::getline(file, line) && !line.starts_with("Cpus_allowed_list:")) {
    }
    return line;
  };
  test::WorkerSettings bound = settings();
  bound.limits = "export OMP_PROC_BIND=true OMP_PLACES=cores";
  test::WorkerProgram worker(bound);
  worker.send("inference_request", "job", job());
  ASSERT_TRUE(worker.response_to("job")["success"]);
  for (const auto& thread : fs::directory_iterator(fmt::format("/proc/{}/task", worker.pid()))) {
    EXPECT_EQ(cores_of(thread.path() / "status"), cores_of("/proc/self/status")) << thread.path();
  }
}

TEST_F(Faults, AModelsDirectoryThatGoesAndComesBackCostsTheJobsBetween) {
  measure();
  fs::rename(root_ / "models", root_ / "gone");
  test::WorkerProgram worker = start();
  const json warning = worker.next();
  EXPECT_EQ(warning["message_type"], "log");
  EXPECT_THAT(warning["data"]["message"].get<std::string>(), HasSubstr("models does not exist"));
  test::Dice dice(6);
  for (int i = 0; i < kRounds / 2; ++i) {
    worker.send("inference_request", "job", job());
    const json refused = worker.response_to("job");
    EXPECT_EQ(refused["error_code"], "not_found");
    EXPECT_EQ(refused["complaints"][0]["pointer"], "/data/models/base");
    EXPECT_THAT(files(), IsEmpty());

    // It goes while the job runs: what is mapped stays.
    fs::rename(root_ / "gone", root_ / "models");
    worker.send(
        "inference_request", "job",
        job(dice.one_in(2) ? json({{"lora", {{"models", json::array({{{"name", "kohya"}}})}}}}) : json::object()));
    json message = worker.next();
    while (!(message.contains("message_type") && message["data"]["stage"] == "denoise")) message = worker.next();
    wait_a_while(dice);
    fs::rename(root_ / "models", root_ / "gone");
    EXPECT_EQ(worker.response_to("job")["success"], true);
    EXPECT_EQ(files().size(), whole_.size());
    clear();
  }
  fs::rename(root_ / "gone", root_ / "models");
  EXPECT_EQ(describe(worker.finish()), "exit status 0");
}

// Copied over in place, as careless downloads do: the mapping's end is gone.
TEST_F(Faults, AModelCutShortAtAnyMomentIsAnErrorOrADeathButNeverHalfAPicture) {
  measure();
  const fs::path model = root_ / "models/checkpoints/cut.safetensors";
  const fs::path original = test::tiny_model("tiny-base-single-file");
  const auto size = fs::file_size(original);
  test::Dice dice(7);
  std::set<std::string> endings;
  for (int i = 0; i < kRounds; ++i) {
    fs::copy_file(original, model, fs::copy_options::overwrite_existing);
    test::WorkerProgram worker = start();
    worker.send("inference_request", "job", job({{"models", {{"base", "cut"}}}}));
    wait_a_while(dice);
    fs::resize_file(model, size / 2);
    worker.send("inference_request", "again", job({{"models", {{"base", "cut"}}}}));
    worker.process().close_input();
    for (json message = worker.next(); !message.is_null(); message = worker.next()) {
      if (message.contains("message_type")) continue;
      if (message["request_id"] == "again") {
        EXPECT_EQ(message["error_code"], "corrupt_data") << message;
      } else if (message["success"] == false) {
        EXPECT_EQ(message["error_code"], "corrupt_data") << message;
      }
    }
    endings.insert(ending(worker));
    for (const auto& [name, bytes] : files()) {
      if (name.starts_with(".darkroom-")) continue;
      EXPECT_EQ(picture_at(root_ / "outputs" / name).width, 128) << name;
    }
    clear();
  }
  endings.erase("exit status 0");
  endings.erase("signal 7 (Bus error)");
  EXPECT_THAT(endings, IsEmpty());
}

}  // namespace
}  // namespace darkroom
