#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "protocol/codec.h"
#include "protocol/line_channel.h"
#include "tests/e2e/program.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;

class WorkerProcess : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / ("e2e_worker_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(root_ / "models/checkpoints");
    std::ofstream(root_ / "models/checkpoints/sdxl.safetensors") << "not read by the fake engine";
  }
  void TearDown() override { fs::remove_all(root_); }

  Subprocess start() const {
    return std::move(
        *Subprocess::start(kBin / "fake-worker", {"--models", root_ / "models", "--outputs", root_ / "out"}));
  }
  static void generate(const Subprocess& worker, const std::string& prompt, int steps) {
    LineWriter writer(worker.input());
    const json data = {
        {"prompt", prompt}, {"model_name", "sdxl"}, {"width", 512}, {"height", 512}, {"num_inference_steps", steps}};
    const json message = {{"message_type", "inference_request"}, {"request_id", "job"}, {"data", data}};
    ASSERT_TRUE(writer.write(message.dump()));
  }

  fs::path root_;
};

TEST_F(WorkerProcess, SigtermFinishesTheStepAnswersAndExitsWell) {
  Subprocess worker = start();
  generate(worker, "slow", 150);
  std::this_thread::sleep_for(200ms);
  worker.send_signal(SIGTERM);
  EXPECT_THAT(read_to_end(worker.output()), HasSubstr("\"error_code\":\"cancelled\""));
  EXPECT_EQ(describe(*worker.wait(10s)), "exit status 0");
}

TEST_F(WorkerProcess, EndOfInputFinishesAndExits) {
  Subprocess worker = start();
  generate(worker, "print", 2);
  worker.close_input();
  const std::string output = read_to_end(worker.output());
  EXPECT_THAT(output, HasSubstr("\"success\":true"));
  EXPECT_THAT(output, testing::Not(HasSubstr("stray")));
  EXPECT_EQ(describe(*worker.wait(10s)), "exit status 0");
}

TEST_F(WorkerProcess, NoNetworkAndNoOtherProgramIsToBeHad) {
  if (const char* sandbox = std::getenv("DARKROOM_WORKER__SANDBOX");
      sandbox != nullptr && sandbox == std::string("false")) {
    GTEST_SKIP() << "switched off for the sanitizers";
  }
  Subprocess worker = start();
  generate(worker, "escape", 1);
  worker.close_input();
  const std::string output = read_to_end(worker.output());
  EXPECT_THAT(output, HasSubstr("socket: Operation not permitted"));
  EXPECT_THAT(output, HasSubstr("execve: Operation not permitted"));
}

TEST_F(WorkerProcess, KillNeverLeavesAPartialPictureUnderItsFinalName) {
  for (int i = 0; i < 20; ++i) {
    Subprocess worker = start();
    generate(worker, "a", 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(3 * i));
    worker.send_signal(SIGKILL);
    read_to_end(worker.output());
    const fs::path picture = root_ / "out/job.png";
    if (!fs::exists(picture)) continue;
    std::ifstream file(picture, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    EXPECT_TRUE(bytes.ends_with(std::string("IEND\xae\x42\x60\x82"))) << "after " << 3 * i << " ms";
    fs::remove(picture);
  }
}

TEST_F(WorkerProcess, WrongFlagsAndSettingsAreUsageErrors) {
  Subprocess flag = std::move(*Subprocess::start(kBin / "fake-worker", {"--no-such-flag"}));
  EXPECT_EQ(describe(*flag.wait(10s)), "exit status 2");
  Subprocess setting = std::move(*Subprocess::start(kBin / "fake-worker", {"--threads", "many"}));
  EXPECT_EQ(describe(*setting.wait(10s)), "exit status 2");
  Subprocess device = std::move(*Subprocess::start(kBin / "fake-worker", {"--device", "abacus"}));
  EXPECT_EQ(describe(*device.wait(10s)), "exit status 1");
}

}  // namespace
}  // namespace darkroom
