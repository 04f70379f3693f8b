#include <csignal>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/codec.h"
#include "tests/e2e/program.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::StartsWith;

class CommandLine : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / ("e2e_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(root_ / "models/checkpoints");
    std::ofstream(root_ / "models/checkpoints/sdxl.safetensors") << "not read by the fake engine";
    ::unsetenv("DARKROOM_WORKER");
  }
  void TearDown() override { fs::remove_all(root_); }

  std::vector<std::string> generate(const std::string& prompt, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"generate", "--models", root_ / "models", "--model", "sdxl",
                                          "--prompt", prompt,     "--width",        "256",     "--height",
                                          "256",      "--output", root_ / "x.png"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  static Outcome run(const std::vector<std::string>& arguments) {
    Subprocess process = start_darkroom(arguments);
    return outcome(process);
  }
  // Puts a shell script in the worker's place.
  void replace_worker(const std::string& script) const {
    const fs::path path = root_ / "worker";
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(path, fs::perms::owner_all);
    ::setenv("DARKROOM_WORKER", path.c_str(), 1);
  }
  // Files beside the models.
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(root_)) {
      if (entry.is_regular_file() && entry.path().filename() != "worker") names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path root_;
};

TEST_F(CommandLine, APictureIsWrittenAndNamed) {
  const Outcome done = run(generate("a cat", {"--seed", "7"}));
  EXPECT_EQ(done.status.code, 0) << done.output;
  EXPECT_EQ(done.output, (root_ / "x.png").string() + " (256x256, seed 7)\n");
  EXPECT_THAT(files(), testing::ElementsAre("x.png"));
}

TEST_F(CommandLine, SeveralPicturesAreNumbered) {
  EXPECT_EQ(run(generate("a cat", {"--batch-size", "2"})).status.code, 0);
  EXPECT_THAT(files(), testing::ElementsAre("x-0.png", "x-1.png"));
}

TEST_F(CommandLine, JsonIsTheWorkersResponseOnOneLine) {
  const Outcome done = run(generate("a cat", {"--json", "--seed", "7"}));
  const Result<WorkerMessage> message = decode_worker_message(done.output);
  ASSERT_TRUE(message) << done.output << message.error().message;
  const auto& generated = std::get<Generated>(std::get<Response>(*message).data);
  EXPECT_EQ(generated.generated_images.at(0).seed, 7U);
  EXPECT_EQ(generated.processing_metrics.device_name, "cpu");
  EXPECT_GT(generated.processing_metrics.memory_peak, 0U);
  EXPECT_FALSE(generated.processing_metrics.stages.empty());
}

TEST_F(CommandLine, EveryMistakeIsToldAtOnce) {
  const Outcome done = run(generate("", {"--steps", "0", "--crop", "5"}));
  EXPECT_EQ(done.status.code, 2);
  EXPECT_EQ(done.output,
            "darkroom generate:\n"
            "  --crop: is \"5\", must have the form X,Y\n"
            "  --prompt: must not be empty\n"
            "  --steps: is 0, must be between 1 and 150\n");
}

TEST_F(CommandLine, AnUnknownFlagIsAUsageError) {
  const Outcome done = run(generate("a", {"--widht", "3"}));
  EXPECT_EQ(done.status.code, 2);
  EXPECT_THAT(done.output, HasSubstr("--widht"));
}

TEST_F(CommandLine, TheEnvironmentsLimitsCount) {
  ::setenv("DARKROOM_LIMITS__MIN_SIDE", "64", 1);
  const Outcome done = run({"generate", "--models", root_ / "models", "--model", "sdxl", "--prompt", "a", "--width",
                            "64", "--height", "64", "--output", root_ / "x.png"});
  ::setenv("DARKROOM_LIMITS__MIN_SIDE", "65x", 1);
  const Outcome refused = run(generate("a"));
  ::unsetenv("DARKROOM_LIMITS__MIN_SIDE");
  EXPECT_EQ(done.status.code, 0) << done.output;
  EXPECT_EQ(refused.status.code, 2);
  EXPECT_EQ(refused.output, "darkroom generate: DARKROOM_LIMITS__MIN_SIDE: expected a whole number, found \"65x\"\n");
}

TEST_F(CommandLine, AMisspeltModelIsNamedWithNearMatches) {
  const Outcome done =
      run({"generate", "--models", root_ / "models", "--model", "sdxk", "--prompt", "a", "--output", root_ / "x.png"});
  EXPECT_EQ(done.status.code, 3);
  EXPECT_THAT(done.output, HasSubstr("--model: there is no checkpoint \"sdxk\""));
  EXPECT_THAT(done.output, HasSubstr("did you mean sdxl?"));
}

TEST_F(CommandLine, AnOutputThatCannotBeWrittenIsFoundBeforeTheWork) {
  // The prompt would kill the worker, if it came that far.
  const Outcome done = run(generate("crash", {}));
  EXPECT_EQ(done.status.code, 8);
  const Outcome refused = run({"generate", "--models", root_ / "models", "--model", "sdxl", "--prompt", "crash",
                               "--output", root_ / "no/such/x.png"});
  EXPECT_EQ(refused.status.code, 2);
  EXPECT_THAT(refused.output, HasSubstr("there is no directory"));
}

TEST_F(CommandLine, TheKindOfFailureIsTheExitCode) {
  EXPECT_EQ(run(generate("fail")).status.code, 5);
  EXPECT_EQ(run(generate("oom")).status.code, 6);
  EXPECT_EQ(run(generate("huge")).status.code, 6);
  EXPECT_THAT(files(), testing::IsEmpty());
}

TEST_F(CommandLine, AFailureIsJsonToo) {
  const Outcome done = run(generate("fail", {"--json"}));
  const Result<WorkerMessage> message = decode_worker_message(done.output);
  ASSERT_TRUE(message) << done.output;
  EXPECT_EQ(std::get<Response>(*message).refusal->error.code, ErrorCode::corrupt_data);
}

TEST_F(CommandLine, AStrayPrintOfALibraryDoesNotDisturbTheProtocol) {
  EXPECT_EQ(run(generate("print")).status.code, 0);
}

TEST_F(CommandLine, AWorkerThatDiesIsReportedWithHow) {
  const Outcome done = run(generate("crash"));
  EXPECT_EQ(done.status.code, 8);
  EXPECT_THAT(done.output, HasSubstr("the worker died before it answered: signal 6 (Aborted)"));
}

TEST_F(CommandLine, AWorkerThatPrintsGarbageIsReported) {
  replace_worker("read line; echo garbage");
  const Outcome done = run(generate("a"));
  EXPECT_EQ(done.status.code, 8);
  EXPECT_THAT(done.output, HasSubstr("the worker sent what is no message"));
}

TEST_F(CommandLine, AWorkerThatIsMissingIsReported) {
  ::setenv("DARKROOM_WORKER", "/nowhere/worker", 1);
  const Outcome done = run(generate("a"));
  EXPECT_EQ(done.status.code, 3);
  EXPECT_THAT(done.output, HasSubstr("cannot start /nowhere/worker"));
}

TEST_F(CommandLine, CtrlCCancelsAndLeavesNothing) {
  Subprocess process = start_darkroom(generate("slow", {"--steps", "150"}));
  std::this_thread::sleep_for(300ms);
  process.send_signal(SIGINT);
  const Outcome done = outcome(process);
  EXPECT_EQ(done.status.code, 130);
  EXPECT_EQ(done.output, "darkroom generate: the job was cancelled\n");
  EXPECT_THAT(files(), testing::IsEmpty());
}

TEST_F(CommandLine, ASecondCtrlCKillsAWorkerThatHangs) {
  Subprocess process = start_darkroom(generate("hang"));
  std::this_thread::sleep_for(300ms);
  process.send_signal(SIGINT);
  std::this_thread::sleep_for(100ms);
  process.send_signal(SIGINT);
  EXPECT_EQ(outcome(process).status.code, 130);
}

TEST_F(CommandLine, ModelsAreListedAsATableAndAsJson) {
  const Outcome table = run({"models", "--models", std::string(DARKROOM_SOURCE_DIR) + "/demo"});
  EXPECT_EQ(table.status.code, 0);
  EXPECT_THAT(table.output, HasSubstr("model  checkpoint  diffusers_folder"));
  EXPECT_THAT(table.output, HasSubstr("float16"));
  const Outcome listed = run({"models", "--json", "--models", std::string(DARKROOM_SOURCE_DIR) + "/demo"});
  const Result<WorkerMessage> message = decode_worker_message(listed.output);
  ASSERT_TRUE(message) << listed.output;
  EXPECT_EQ(std::get<ModelList>(std::get<Response>(*message).data).models.size(), 1U);
}

TEST_F(CommandLine, TheDoctorSaysWhatIsThereAndWhatIsMissing) {
  const Outcome done = run({"doctor", "--models", root_ / "nowhere"});
  EXPECT_EQ(done.status.code, 0);
  EXPECT_THAT(done.output, HasSubstr("device        cpu, fastest in "));
  EXPECT_THAT(done.output, HasSubstr("nowhere does not exist"));
  EXPECT_TRUE(nlohmann::json::accept(run({"doctor", "--json", "--models", root_ / "models"}).output));
}

TEST_F(CommandLine, HelpAndVersionSayWhatThereIs) {
  EXPECT_THAT(run({"--version"}).output, StartsWith("darkroom "));
  const Outcome help = run({"generate", "--help"});
  EXPECT_EQ(help.status.code, 0);
  for (const char* word : {"--model", "--prompt", "--scheduler-option", "--output", "Exit codes"}) {
    EXPECT_THAT(help.output, HasSubstr(word));
  }
  EXPECT_EQ(run({}).status.code, 2);
}

}  // namespace
}  // namespace darkroom
