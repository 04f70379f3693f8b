// What a job was thought to need beside what it took: the prediction is never less, and not many times more.
// DARKROOM_MEMORY_TABLE=1 prints the figures.
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/e2e/worker/random_jobs.h"
#include "tests/e2e/worker/real_worker.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMega = 1'000'000;

struct Case {
  std::string name;
  json data;
};

class Memory : public RealWorker {
 protected:
  void SetUp() override {
    RealWorker::SetUp();
    for (const auto& [from, as] : RandomJobs::models()) put_model(from, as);
    std::filesystem::copy(test::source_dir() / "demo/model", root_ / "models/checkpoints/demo",
                          std::filesystem::copy_options::recursive);
  }

  static json job(const char* model, int width, int height, const json& more = json::object()) {
    json data = {{"prompt", "a lake"},
                 {"models", {{"base", model}}},
                 {"dimensions", {{"width", width}, {"height", height}}},
                 {"hyperparameters", {{"num_inference_steps", 2}, {"seed", 1}}}};
    data.merge_patch(more);
    return data;
  }

  // In a worker of its own: one that has worked holds memory that the next job uses again.
  void compare(const Case& c) const {
    test::WorkerProgram worker = start();
    const std::uint64_t idle = worker.resident();
    worker.reset_peak();
    worker.send("inference_request", "job", c.data);
    const json answer = worker.response_to("job");
    const bool is_int8 = c.data.value(json::json_pointer("/precision/dtype"), "") == "int8";
    if (is_int8 && answer.value("error_code", "") == "unsupported") {  // not every machine has it
      fmt::print(stderr, "{}: {}\n", c.name, answer["error"].get<std::string>());
      return;
    }
    ASSERT_TRUE(answer["success"]) << c.name << ": " << answer["error"];
    const std::uint64_t took = worker.peak() - idle;
    const auto predicted = answer["data"]["processing_metrics"]["memory_predicted"].get<std::uint64_t>();
    if (std::getenv("DARKROOM_MEMORY_TABLE") != nullptr) {
      fmt::print("{:40} predicted {:6} MB, took {:6} MB, {:.2f} times\n", c.name, predicted / kMega, took / kMega,
                 static_cast<double>(predicted) / static_cast<double>(took));
    }
    if (test::under_sanitizer()) return;
    EXPECT_GE(predicted, took) << c.name;
    EXPECT_LE(predicted, took * 2 + 40 * kMega) << c.name;
  }
};

TEST_F(Memory, IsPredictedFromAboveWithinAFewTimes) {
  const json tall = {{"precision", {{"dtype", "float32"}}}};
  const json bf16 = {{"precision", {{"dtype", "bfloat16"}}}};
  const std::vector<Case> cases = {
      {"tiny 64x64", job("tiny-base", 64, 64)},
      {"tiny 128x128 float32", job("tiny-base", 128, 128, tall)},
      {"tiny 512x512 float32", job("tiny-base", 512, 512, tall)},
      {"tiny 512x512 bfloat16", job("tiny-base", 512, 512, bf16)},
      {"tiny 512x512 int8", job("tiny-base", 512, 512, {{"precision", {{"dtype", "int8"}}}})},
      {"tiny 256x256 batch 4", job("tiny-base", 256, 256, {{"batch", {{"size", 4}}}})},
      {"tiny 1024x1024 VAE tiles", job("tiny-base", 1024, 1024, {{"precision", {{"vae_tile", 32}}}})},
      {"tiny refiner", job("tiny-base", 256, 256, {{"models", {{"refiner", "tiny-refiner"}}}})},
      {"tiny two ControlNets", job("tiny-base", 256, 256,
                                   {{"resize_mode", "stretch"},
                                    {"controlnet", json::array({{{"model", "tiny-controlnet-a"},
                                                                 {"control_image", "inputs/control-a.png"},
                                                                 {"preprocessor", {{"enabled", false}}}},
                                                                {{"model", "tiny-controlnet-b"},
                                                                 {"control_image", "inputs/control-b.png"},
                                                                 {"preprocessor", {{"enabled", false}}}}})}})},
      {"tiny LoRA", job("tiny-base", 256, 256, {{"lora", {{"models", json::array({{{"name", "kohya"}}})}}}})},
      {"tiny image to image",
       job("tiny-base", 512, 512, {{"init_image", "inputs/init.png"}, {"resize_mode", "stretch"}})},
      {"tiny second pass", job("tiny-base", 256, 256, {{"hires", {{"factor", 2}}}})},
      {"tiny second pass by pictures",
       job("tiny-base", 256, 256, {{"hires", {{"factor", 2}, {"upscaler", "realesrgan-x2"}}}})},
      {"tiny upscaler x4",
       job("tiny-base", 256, 256, {{"output", {{"upscale", {{"method", "realesrgan-x4"}, {"factor", 4}}}}}})},
      {"tiny perturbed attention", job("tiny-base", 512, 512, {{"hyperparameters", {{"pag_scale", 3}}}})},
      {"demo 256x256", job("demo", 256, 256)},
      {"demo 256x256 float32", job("demo", 256, 256, tall)},
      {"demo 1024x1024 bfloat16", job("demo", 1024, 1024, bf16)},
      {"upscale alone x4",
       {{"worker_type", "upscaler_worker"},
        {"action", "upscale"},
        {"init_image", "inputs/init.png"},
        {"output", {{"upscale", {{"method", "realesrgan-x4"}, {"factor", 4}}}}}}},
  };
  for (const Case& c : cases) compare(c);
}

}  // namespace
}  // namespace darkroom
