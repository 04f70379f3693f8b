#include "worker/worker.h"

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/json_text.h"
#include "engine/image/codec.h"
#include "tests/fakes/json_schema.h"
#include "worker/memory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A worker in this process, around the fake engine, between two pipes. Everything that it says is held against the
// schemas of api/.
class WorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN);
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / ("worker_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(root_ / "models/checkpoints");
    std::ofstream(root_ / "models/checkpoints/sdxl.safetensors") << "not read by the fake engine";
    config_.models.directories = {(root_ / "models").string()};
    config_.outputs.directory = (root_ / "outputs").string();
    config_.limits.min_side = 8;
  }

  void TearDown() override {
    stop();
    fs::remove_all(root_);
  }

  void start() {
    std::array<int, 2> down{};
    std::array<int, 2> up{};
    ASSERT_EQ(::pipe(down.data()), 0);
    ASSERT_EQ(::pipe(up.data()), 0);
    worker_input_ = Fd{down[0]};
    requests_ = Fd{down[1]};
    answers_ = Fd{up[0]};
    worker_output_ = Fd{up[1]};
    signals_ = Fd{::eventfd(0, 0)};
    thread_ = std::thread([this] {
      const WorkerFds fds{.input = worker_input_.get(), .output = worker_output_.get(), .signals = signals_.get()};
      Worker(config_, ModelDirectories::Reach::inside, fds).run();
      worker_output_.reset();
    });
    reader_.emplace(answers_.get(), 100'000'000);
    ASSERT_EQ(next()["message_type"], "ready");
  }

  void stop() {
    requests_.reset();
    if (thread_.joinable()) thread_.join();
  }

  void send_line(std::string line) {
    line += '\n';
    for (std::string_view rest = line; !rest.empty();) {
      const ssize_t count = ::write(requests_.get(), rest.data(), rest.size());
      ASSERT_GT(count, 0);
      rest.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  void send(const std::string& type, const std::string& id, const json& data = json::object()) {
    send_line(json{{"message_type", type}, {"request_id", id}, {"data", data}}.dump());
  }

  void generate(const std::string& id, const std::string& prompt, const json& more = json::object()) {
    json data = {{"prompt", prompt}, {"model_name", "sdxl"}, {"width", 8}, {"height", 8}, {"num_inference_steps", 3}};
    data.merge_patch(more);
    send("inference_request", id, data);
  }

  // The next message; null once the worker is gone.
  json next() {
    while (true) {
      while (const std::optional<Received> received = reader_->take()) {
        if (received->kind == Received::Kind::end) return nullptr;
        json message = json::parse(received->text);
        const char* schema = message.contains("message_type") ? "worker_event_schema" : "enhanced_response_schema";
        EXPECT_THAT(schema_errors(load_schema(schema), message), IsEmpty()) << message;
        return message;
      }
      reader_->read_some();
    }
  }

  // The next response; events are passed over.
  json response() {
    json message = next();
    while (message.contains("message_type")) message = next();
    return message;
  }

  json response_to(const std::string& id) {
    json message = response();
    while (!message.is_null() && message["request_id"] != id) message = response();
    return message;
  }

  // Waits for the first progress of a job.
  void wait_until_running(const std::string& id) {
    for (json message = next();; message = next()) {
      ASSERT_FALSE(message.is_null());
      if (message.contains("message_type") && message["request_id"] == id) return;
    }
  }

  std::vector<std::string> files_in_outputs() const {
    std::vector<std::string> names;
    if (!fs::exists(root_ / "outputs")) return names;
    for (const auto& entry : fs::recursive_directory_iterator(root_ / "outputs")) {
      if (entry.is_regular_file()) names.push_back(entry.path().lexically_relative(root_ / "outputs").string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path root_;
  Config config_;
  Fd worker_input_, requests_, answers_, worker_output_, signals_;
  std::thread thread_;
  std::optional<LineReader> reader_;
};

TEST_F(WorkerTest, AnInferenceRequestGetsProgressForEveryStepAndThenItsPictures) {
  start();
  generate("job", "a cat", {{"batch", {{"size", 2}}}, {"seed", 5}, {"metadata", {{"tags", {"x"}}}}});
  std::vector<int> steps;
  json message = next();
  for (; message.contains("message_type"); message = next()) {
    EXPECT_EQ(message["request_id"], "job");
    if (message["data"]["steps"] == 3) steps.push_back(message["data"]["step"]);
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3));
  ASSERT_TRUE(message["success"]) << message;
  const json& images = message["data"]["generated_images"];
  ASSERT_EQ(images.size(), 2U);
  EXPECT_EQ(images[0]["filename"], "job-0.png");
  EXPECT_EQ(images[1]["seed"], 6);
  EXPECT_EQ(images[1]["path"], (root_ / "outputs/job-1.png").string());
  EXPECT_EQ(message["data"]["tags"], json({"x"}));
  EXPECT_EQ(message["data"]["processing_metrics"]["model_info"]["base_model"], "sdxl");
  EXPECT_THAT(files_in_outputs(), ElementsAre("job-0.png", "job-1.png"));
}

TEST_F(WorkerTest, PreviewsComeAsOftenAsAskedFor) {
  start();
  generate("job", "a cat", {{"output", {{"preview_every", 2}}}});
  std::vector<int> with_preview;
  json message = next();
  for (; message.contains("message_type"); message = next()) {
    const std::string preview = message["data"].value("preview", "");
    if (preview.empty()) continue;
    with_preview.push_back(message["data"]["step"]);
    EXPECT_TRUE(preview.starts_with("data:image/jpeg;base64,/9j/")) << preview;
  }
  EXPECT_TRUE(message["success"]);
  EXPECT_THAT(with_preview, ElementsAre(2));
}

TEST_F(WorkerTest, StatusIsAnsweredWhileAJobRuns) {
  start();
  generate("job", "slow", {{"num_inference_steps", 100}});
  generate("waiting", "a");
  wait_until_running("job");
  send("status_request", "s");
  const json status = response();
  EXPECT_EQ(status["request_id"], "s");
  EXPECT_EQ(status["data"]["running"], "job");
  EXPECT_EQ(status["data"]["queued"], json({"waiting"}));
  EXPECT_EQ(status["data"]["orchestrator_status"], "running");
  EXPECT_EQ(status["data"]["workers"]["enhanced_sdxl_worker"]["status"], "available");
  EXPECT_EQ(status["data"]["message_handlers"][0], "inference_request");
  send("cancel_request", "c", {{"request_id", "job"}});
}

TEST_F(WorkerTest, ARunningJobIsCancelledWithinAStepAndTheNextOneWorks) {
  start();
  generate("job", "slow", {{"num_inference_steps", 150}});
  wait_until_running("job");
  send("cancel_request", "c", {{"request_id", "job"}});
  EXPECT_EQ(response_to("c")["data"]["cancelled"], "job");
  const json answer = response();
  EXPECT_EQ(answer["request_id"], "job");
  EXPECT_EQ(answer["error_code"], "cancelled");
  EXPECT_THAT(files_in_outputs(), IsEmpty());
  generate("next", "a");
  EXPECT_TRUE(response_to("next")["success"]);
}

TEST_F(WorkerTest, AQueuedJobIsCancelledBeforeItStarts) {
  start();
  generate("first", "slow", {{"num_inference_steps", 20}});
  generate("second", "a");
  send("cancel_request", "c", {{"request_id", "second"}});
  EXPECT_EQ(response_to("second")["error_code"], "cancelled");
  EXPECT_TRUE(response_to("first")["success"]);
  send("cancel_request", "d", {{"request_id", "second"}});
  EXPECT_EQ(response_to("d")["error_code"], "not_found");
}

TEST_F(WorkerTest, ATimeoutEndsTheJob) {
  start();
  generate("job", "slow", {{"num_inference_steps", 150}, {"metadata", {{"timeout", 1}}}});
  const json answer = response_to("job");
  EXPECT_EQ(answer["error_code"], "timed_out");
  EXPECT_LT(answer["execution_time"], 3.0 - 0.02);  // all 150 steps take 3 s
}

TEST_F(WorkerTest, JobsOfHigherPriorityGoFirst) {
  start();
  generate("running", "slow", {{"num_inference_steps", 30}});
  wait_until_running("running");
  generate("low", "a", {{"metadata", {{"priority", "low"}}}});
  generate("normal", "a");
  generate("high", "a", {{"metadata", {{"priority", "high"}}}});
  std::vector<std::string> order;
  for (int i = 0; i < 4; ++i) order.push_back(response()["request_id"]);
  EXPECT_THAT(order, ElementsAre("running", "high", "normal", "low"));
}

TEST_F(WorkerTest, AFullQueueAndARepeatedIdAreRefused) {
  config_.worker.queue = 1;
  start();
  generate("a", "slow", {{"num_inference_steps", 20}});
  wait_until_running("a");
  generate("a", "x");
  EXPECT_EQ(response()["error_code"], "conflict");
  generate("b", "x");
  generate("c", "x");
  const json answer = response_to("c");
  EXPECT_EQ(answer["error_code"], "overloaded");
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("worker.queue"));
}

// --- Several jobs at once ---

TEST_F(WorkerTest, JobsThatWaitAndCanShareAreDoneTogether) {
  config_.worker.batch = 3;
  start();
  generate("running", "slow", {{"num_inference_steps", 30}});
  wait_until_running("running");
  generate("a", "x", {{"seed", 5}});
  generate("other", "x", {{"width", 16}});
  generate("b", "x", {{"seed", 6}});
  generate("wrong", "x", {{"lora", {{"models", {{{"name", "nowhere"}}}}}}});
  generate("c", "x");
  std::map<std::string, json> answers;
  std::vector<std::string> order;
  for (int i = 0; i < 6; ++i) {
    json answer = response();
    order.push_back(answer["request_id"]);
    answers[order.back()] = std::move(answer);
  }
  EXPECT_THAT(order, ElementsAre("running", "a", "b", "wrong", "other", "c"));
  EXPECT_EQ(answers["a"]["warnings"], json({"one of 2"}));  // what is wrong is found before the work
  EXPECT_EQ(answers["b"]["data"]["generated_images"][0]["seed"], 6);
  EXPECT_EQ(answers["wrong"]["error_code"], "not_found");
  EXPECT_EQ(answers["c"]["warnings"], json::array());
}

TEST_F(WorkerTest, OneOfSeveralIsCancelledAndFailsAlone) {
  config_.worker.batch = 4;
  start();
  generate("running", "slow", {{"num_inference_steps", 20}});
  wait_until_running("running");
  generate("a", "slow", {{"num_inference_steps", 20}});
  generate("b", "slow", {{"num_inference_steps", 100}});
  generate("fails", "fail");
  generate("c", "x");
  wait_until_running("a");
  send("cancel_request", "q", {{"request_id", "b"}});
  std::map<std::string, json> answers;
  while (answers.size() < 5) {
    json answer = response();
    const std::string id = answer["request_id"];
    answers[id] = std::move(answer);
  }
  EXPECT_TRUE(answers["a"]["success"]);
  EXPECT_EQ(answers["b"]["error_code"], "cancelled");
  EXPECT_EQ(answers["fails"]["error_code"], "corrupt_data");
  EXPECT_TRUE(answers["c"]["success"]);
  EXPECT_EQ(answers["q"]["data"]["cancelled"], "b");
}

TEST_F(WorkerTest, OnlyAsManyShareAsTheMemorySufficesFor) {
  config_.worker.batch = 4;
  config_.worker.memory_bytes = 2'500'000'000;
  start();
  generate("running", "slow", {{"num_inference_steps", 30}});
  wait_until_running("running");
  for (const char* id : {"a", "b", "c"}) generate(id, "gigabyte");
  std::map<std::string, json> answers;
  for (int i = 0; i < 4; ++i) {
    json answer = response();
    const std::string id = answer["request_id"];
    answers[id] = std::move(answer);
  }
  EXPECT_EQ(answers["a"]["warnings"], json({"one of 2"}));
  EXPECT_EQ(answers["b"]["warnings"], json({"one of 2"}));
  EXPECT_EQ(answers["c"]["warnings"], json({"one of 1"}));
}

TEST_F(WorkerTest, EndOfInputFinishesWhatWasAccepted) {
  start();
  generate("a", "slow", {{"num_inference_steps", 10}});
  generate("b", "x");
  requests_.reset();
  EXPECT_TRUE(response()["success"]);
  EXPECT_TRUE(response()["success"]);
  EXPECT_TRUE(next().is_null());
}

TEST_F(WorkerTest, ASignalFinishesTheStepAnswersEverythingAndEnds) {
  start();
  generate("a", "slow", {{"num_inference_steps", 150}});
  generate("b", "x");
  wait_until_running("a");
  send("status_request", "s");  // answered once all lines before it have been read: the signal must not overtake them
  EXPECT_EQ(response_to("s")["data"]["queued"], json({"b"}));
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(signals_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  EXPECT_EQ(response_to("b")["error_code"], "cancelled");
  EXPECT_EQ(response()["error_code"], "cancelled");
  EXPECT_TRUE(next().is_null());
}

TEST_F(WorkerTest, AShutdownIsAnsweredLast) {
  start();
  generate("a", "slow", {{"num_inference_steps", 5}});
  send("shutdown_request", "bye");
  generate("late", "x");
  EXPECT_EQ(response()["error_code"], "conflict");
  EXPECT_EQ(response()["request_id"], "a");
  EXPECT_EQ(response()["data"]["shut_down"], true);
  EXPECT_TRUE(next().is_null());
}

TEST_F(WorkerTest, NobodyListeningEndsTheJob) {
  start();
  generate("a", "slow", {{"num_inference_steps", 150}});
  wait_until_running("a");
  answers_.reset();
  thread_.join();
}

TEST_F(WorkerTest, EveryWayOfFailingIsAnAnswerAndLeavesTheWorkerClean) {
  start();
  const std::vector<std::pair<std::string, std::string>> ways = {
      {"fail", "corrupt_data"}, {"oom", "out_of_memory"}, {"huge", "out_of_memory"}};
  for (const auto& [prompt, code] : ways) {
    generate("job", prompt);
    EXPECT_EQ(response_to("job")["error_code"], code) << prompt;
    generate("job", "a");
    EXPECT_TRUE(response_to("job")["success"]) << prompt;
  }
}

TEST_F(WorkerTest, AJobThatNeedsTooMuchMemoryIsRefusedWithTheFigures) {
  config_.worker.memory_bytes = 1'000'000'000;
  start();
  generate("job", "huge");
  EXPECT_THAT(response_to("job")["error"].get<std::string>(),
              HasSubstr("needs 1152921504606 MB of memory, 1000 MB are allowed (worker.memory_bytes)"));
}

TEST_F(WorkerTest, ModelsThatAreMissingAreAllNamedAtOnce) {
  start();
  generate("job", "a",
           {{"models", {{"base", "sdxk"}, {"vae", "none"}}},
            {"lora", {{"models", json::array({{{"name", "style"}}})}}},
            {"controlnet", {{"type", "canny"}, {"control_image", "c.png"}}}});
  const json answer = response_to("job");
  EXPECT_EQ(answer["error_code"], "not_found");
  std::vector<std::string> pointers;
  for (const json& complaint : answer["complaints"]) pointers.push_back(complaint["pointer"]);
  EXPECT_THAT(pointers, ElementsAre("/data/models/base", "/data/models/vae", "/data/lora/models/0/name",
                                    "/data/controlnet/0/type", "/data/controlnet/0/control_image"));
  EXPECT_THAT(answer["complaints"][0]["message"].get<std::string>(), HasSubstr("did you mean sdxl?"));
}

TEST_F(WorkerTest, NothingIsWrittenOutsideOfTheOutputsDirectory) {
  fs::create_directories(root_ / "elsewhere");
  fs::create_directories(root_ / "outputs");
  fs::create_symlink(root_ / "elsewhere", root_ / "outputs/link");
  start();
  for (const char* path : {"../x.png", "/tmp/x.png", "a/../../x.png", "link/x.png", "../elsewhere/"}) {
    generate("job", "a", {{"output", {{"save_path", path}}}});
    EXPECT_THAT(response_to("job")["error"].get<std::string>(), HasSubstr("leads out of the outputs directory"))
        << path;
  }
  generate("job", "a", {{"output", {{"save_path", "deep/er/x.webp"}}}});
  EXPECT_TRUE(response_to("job")["success"]);
  EXPECT_THAT(files_in_outputs(), ElementsAre("deep/er/x.webp"));
  EXPECT_TRUE(fs::is_empty(root_ / "elsewhere"));
}

TEST_F(WorkerTest, AnOutputThatCannotBeWrittenIsFoundBeforeTheWork) {
  start();
  std::ofstream(root_ / "blocked") << "a file where a directory should be";
  fs::create_directories(root_ / "outputs");
  std::ofstream(root_ / "outputs/file") << "";
  generate("job", "crash", {{"output", {{"save_path", "file/x.png"}}}});
  EXPECT_EQ(response_to("job")["error_code"], "invalid_argument");
}

TEST_F(WorkerTest, ModelsAreLoadedListedAndUnloaded) {
  start();
  send("model_load_request", "load", {{"model_name", "sdxl"}});
  EXPECT_EQ(response()["data"]["model_loaded"], "sdxl");
  send("model_list_request", "list");
  const json models = response()["data"]["models"];
  ASSERT_EQ(models.size(), 1U);
  EXPECT_EQ(models[0]["name"], "sdxl");
  EXPECT_EQ(models[0]["loaded"], true);
  EXPECT_NE(models[0]["problem"], "");  // it is no safetensors file
  send("model_unload_request", "unload", {{"model_name", "sdxl"}});
  EXPECT_EQ(response()["data"]["model_unloaded"], "sdxl");
  send("model_unload_request", "again", {{"model_name", "sdxl"}});
  EXPECT_EQ(response()["error_code"], "not_found");
  send("inference_request", "f", {{"worker_type", "lora_worker"}});
  EXPECT_EQ(response()["data"]["models"], json::array());
  send("inference_request", "s", {{"worker_type", "scheduler_manager"}});
  EXPECT_THAT(response()["data"]["schedulers"].get<std::vector<std::string>>(), testing::Contains("DPM++ 2M"));
}

TEST_F(WorkerTest, ModelsOfEveryKindAreLoadedByTheirWorkers) {
  const std::vector<std::array<const char*, 3>> kinds = {{"lora_worker", "lora", "loras/style.safetensors"},
                                                         {"controlnet_worker", "controlnet", "controlnets/canny.pth"},
                                                         {"upscaler_worker", "upscaler", "upscalers/x4.pth"},
                                                         {"vae_manager", "vae", "vaes/fixed.safetensors"},
                                                         {nullptr, "embedding", "embeddings/word.pt"}};
  for (const auto& [worker, kind, file] : kinds) {
    fs::create_directories((root_ / "models" / file).parent_path());
    std::ofstream(root_ / "models" / file) << "not read by the fake engine";
  }
  start();
  for (const auto& [worker, kind, file] : kinds) {
    const std::string name = fs::path(file).stem();
    if (worker == nullptr) {
      send("model_load_request", kind, {{"model_name", name}, {"kind", kind}});
    } else {
      send("inference_request", kind, {{"worker_type", worker}, {"action", "load"}, {"model_name", name}});
    }
    EXPECT_EQ(response()["data"]["model_loaded"], name);
    send("model_list_request", "list", {{"kind", kind}});
    const json models = response()["data"]["models"];
    ASSERT_EQ(models.size(), 1U) << kind;
    EXPECT_EQ(models[0]["name"], name);
    EXPECT_EQ(models[0]["kind"], kind);
    EXPECT_EQ(models[0]["loaded"], true);
  }
  send("status_request", "status");
  EXPECT_EQ(response()["data"]["loaded_models"].size(), kinds.size());
}

TEST_F(WorkerTest, APictureOfAnySizeIsEnlargedWithoutACheckpoint) {
  fs::create_directories(root_ / "outputs");
  const engine::Bytes png = value_or_throw(engine::encode_png(engine::Image(50, 30, 3)));
  std::ofstream(root_ / "outputs/small.png", std::ios::binary)
      .write(reinterpret_cast<const char*>(png.data()), static_cast<std::streamsize>(png.size()));
  start();
  send("inference_request", "u",
       {{"worker_type", "upscaler_worker"},
        {"action", "upscale"},
        {"init_image", "small.png"},
        {"output", {{"upscale", {{"method", "lanczos"}, {"factor", 2}}}}}});
  const json answer = response_to("u");
  ASSERT_TRUE(answer["success"]) << answer;
  EXPECT_EQ(answer["data"]["generated_images"][0]["width"], 100);
  EXPECT_EQ(answer["data"]["generated_images"][0]["height"], 60);
}

TEST_F(WorkerTest, AMissingModelsDirectoryIsSaidOnce) {
  config_.models.directories.push_back((root_ / "nowhere").string());
  start();
  const json log = next();
  EXPECT_EQ(log["message_type"], "log");
  EXPECT_THAT(log["data"]["message"].get<std::string>(), HasSubstr("nowhere"));
}

TEST_F(WorkerTest, ALineOfAHundredMegabytesIsRefusedInBoundedMemory) {
  config_.worker.line_bytes = 1'000'000;
  start();
  const std::uint64_t before = resident_bytes();
  send_line(std::string(100'000'000, 'x'));
  const json answer = response();
  EXPECT_EQ(answer["request_id"], "unknown");
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr("longer than 1000000 bytes"));
  send("status_request", "s");
  EXPECT_EQ(response()["request_id"], "s");
  EXPECT_LT(resident_bytes(), before + 20'000'000);
}

}  // namespace
}  // namespace darkroom
