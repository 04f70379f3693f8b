// Lines that no client sends, ten thousand of them, to one worker: each is answered, and the worker stays what it was.
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/e2e/program.h"
#include "tests/support/hostile_json.h"
#include "tests/support/worker_program.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

constexpr std::uint64_t kMebi = 1024 * 1024;

class HostileLines : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / ("hostile_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(root_ / "models/checkpoints");
    std::ofstream(root_ / "models/checkpoints/sdxl.safetensors") << "not read by the fake engine";
  }
  void TearDown() override { fs::remove_all(root_); }

  test::WorkerProgram start(const std::string& config) const {
    return test::WorkerProgram(
        {.program = kBin / "fake-worker", .root = root_, .config = "[limits]\nmin_side = 8\n" + config, .limits = ""});
  }

  static void expect_a_good_one_to_succeed(test::WorkerProgram& worker) {
    worker.send("inference_request", "good",
                {{"prompt", "a cat"}, {"model_name", "sdxl"}, {"width", 8}, {"height", 8}});
    const json answer = worker.response_to("good");
    ASSERT_FALSE(answer.is_null()) << "the worker is gone";
    EXPECT_TRUE(answer["success"]) << answer;
  }

  fs::path root_;
};

// A request of each kind with all that it may hold, but for shutdown_request, whose answer is the end.
std::vector<std::string> good_requests() {
  const json everything = {
      {"worker_type", "enhanced_sdxl_worker"},
      {"prompt", "a cat"},
      {"negative_prompt", "blurry"},
      {"models", {{"base", "sdxl"}, {"refiner", nullptr}, {"vae", nullptr}}},
      {"lora", {{"enabled", true}, {"models", json::array({{{"name", "style"}, {"weight", 0.5}}})}}},
      {"controlnet", {{"type", "canny"}, {"control_image", "c.png"}, {"preprocessor", {{"resolution", 512}}}}},
      {"embeddings", json::array({{{"token", "<x>"}, {"model", "x"}}})},
      {"hyperparameters",
       {{"num_inference_steps", 1}, {"guidance_scale", 7.5}, {"seed", 1}, {"strength", 0.5}, {"pag_scale", 0}}},
      {"dimensions", {{"width", 8}, {"height", 8}}},
      {"scheduler", "DPMSolverMultistepScheduler"},
      {"scheduler_options", {{"use_karras_sigmas", true}}},
      {"output",
       {{"format", "png"},
        {"quality", 95},
        {"save_path", "outputs/"},
        {"upscale", {{"enabled", true}, {"factor", 2}, {"method", "lanczos"}}}}},
      {"batch", {{"size", 1}, {"parallel", false}}},
      {"precision", {{"dtype", "float16"}, {"vae_dtype", "float32"}, {"cpu_offload", false}}},
      {"metadata", {{"request_id", "r"}, {"priority", "normal"}, {"timeout", 300}, {"tags", {"a", "b"}}}}};
  const json flat = {{"prompt", "a cat"}, {"model_name", "sdxl"}, {"width", 8},
                     {"height", 8},       {"seed", -1},           {"num_inference_steps", 1}};
  std::vector<std::string> lines;
  const auto add = [&](const char* type, const json& data) {
    lines.push_back(json{{"message_type", type}, {"request_id", "r"}, {"data", data}}.dump());
  };
  add("inference_request", everything);
  add("inference_request", flat);
  add("inference_request", {{"worker_type", "lora_worker"}, {"action", "load"}, {"model_name", "style"}});
  add("inference_request", {{"worker_type", "upscaler_worker"},
                            {"action", "upscale"},
                            {"init_image", "data:image/png;base64,iVBORw0KGgo="},
                            {"output", {{"upscale", {{"method", "lanczos"}}}}}});
  add("model_load_request", {{"model_name", "sdxl"}, {"kind", "checkpoint"}, {"dtype", "auto"}});
  add("model_unload_request", {{"model_name", "sdxl"}});
  add("model_list_request", {{"kind", "lora"}});
  add("status_request", json::object());
  add("cancel_request", {{"request_id", "nobody"}});
  return lines;
}

TEST_F(HostileLines, TenThousandAreAnsweredOneByOneAndTheNextGoodOneSucceeds) {
  constexpr int kLines = 10'000;
  constexpr std::uint64_t kLineBytes = 8'000'000;
  test::WorkerProgram worker = start("[worker]\nline_bytes = 8000000\n");
  expect_a_good_one_to_succeed(worker);
  const std::uint64_t before = worker.resident();

  const std::vector<std::string> good = good_requests();
  const std::vector<std::string> values = test::hostile_values();
  test::Dice dice(20260101);
  int refused = 0;
  for (int i = 0; i < kLines; ++i) {
    const std::string line = test::hostile_line(dice, good, values);
    ASSERT_TRUE(worker.send_line(line)) << "line " << i << " ended the worker: " << line.substr(0, 500);
    const json answer = worker.response();
    ASSERT_FALSE(answer.is_null()) << "line " << i << " ended the worker: " << line.substr(0, 500);
    refused += answer["success"] == false ? 1 : 0;
    ASSERT_LT(answer.dump().size(), 100'000U) << line.substr(0, 500);
    if (i % 1000 == 999) expect_a_good_one_to_succeed(worker);
  }
  EXPECT_GT(refused, kLines * 3 / 4);
  if (!test::under_sanitizer()) {
    EXPECT_LT(worker.peak(), before + 8 * kLineBytes);
    EXPECT_LT(worker.resident(), before + 32 * kMebi);
  }
  EXPECT_EQ(describe(worker.finish()), "exit status 0");
}

TEST_F(HostileLines, AHundredMegabytesWithoutANewlineAreRefusedAtTheLimit) {
  test::WorkerProgram worker = start("");
  const std::uint64_t before = worker.resident();
  ASSERT_TRUE(worker.send_line(std::string(100'000'000, 'x')));
  const json answer = worker.response();
  EXPECT_EQ(answer["request_id"], "unknown");
  EXPECT_EQ(answer["error_code"], "invalid_argument");
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("longer than 64000000 bytes (worker.line_bytes)"));
  if (!test::under_sanitizer()) {
    // The limit, and the same again while the buffer grows to it.
    EXPECT_LT(worker.peak(), before + 3 * std::uint64_t{64'000'000});
    EXPECT_LT(worker.resident(), before + 32 * kMebi);
  }
  expect_a_good_one_to_succeed(worker);
}

// Short texts for things that are large once they are read.
TEST_F(HostileLines, ALineWithinTheLimitTakesNoMoreMemoryThanItsValuesMay) {
  test::WorkerProgram worker = start("");
  const std::uint64_t before = worker.resident();
  std::string lists = "[[]";
  std::string keys = "{\"a\":1";
  for (int i = 0; i < 6'000'000; ++i) {
    lists += ",[]";
    keys += ",\"" + std::to_string(i) + "\":0";
    if (keys.size() > 60'000'000) break;
  }
  const std::string unknown = R"({"message_type":"status_request","request_id":"r","data":)";
  std::string some_keys = unknown + "{\"a\":1";
  for (int i = 0; i < 500'000; ++i) some_keys += ",\"" + std::to_string(i) + "\":0";
  for (const std::string& line : {lists + "]", keys + "}", some_keys + "}}", '"' + std::string(60'000'000, '\x01')}) {
    ASSERT_TRUE(worker.send_line(line));
    const json answer = worker.response();
    ASSERT_FALSE(answer.is_null());
    EXPECT_FALSE(answer["success"]);
    EXPECT_LT(answer.dump().size(), 100'000U);
  }
  if (!test::under_sanitizer()) {
    EXPECT_LT(worker.peak(), before + 512 * kMebi);
  }
  expect_a_good_one_to_succeed(worker);
}

}  // namespace
}  // namespace darkroom
