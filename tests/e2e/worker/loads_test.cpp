// Models loaded ahead of their jobs, and let go.
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/e2e/worker/random_jobs.h"
#include "tests/e2e/worker/real_worker.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Loads : public RealWorker {
 protected:
  void SetUp() override {
    RealWorker::SetUp();
    for (const auto& [from, as] : RandomJobs::models()) put_model(from, as);
  }

  // "kind name" of every model that is said to be loaded.
  static std::set<std::string> loaded(test::WorkerProgram& worker) {
    worker.send("model_list_request", "list");
    const json answer = worker.response_to("list");
    std::set<std::string> names;
    for (const json& model : answer["data"]["models"]) {
      if (model["loaded"]) names.insert(model["kind"].get<std::string>() + " " + model["name"].get<std::string>());
    }
    return names;
  }

  static json job(const json& more) {
    json data = {{"prompt", "a <sks-cat>"},
                 {"models", {{"base", "tiny-base"}}},
                 {"dimensions", {{"width", 64}, {"height", 64}}},
                 {"hyperparameters", {{"num_inference_steps", 2}, {"seed", 1}}}};
    data.merge_patch(more);
    return data;
  }
};

TEST_F(Loads, EveryKindIsKeptUntilItIsLetGoAndMakesNoOtherPicture) {
  const std::vector<std::pair<std::string, std::string>> models = {
      {"checkpoint", "tiny-base"}, {"lora", "kohya"},        {"controlnet", "tiny-controlnet-a"},
      {"vae", "tiny-vae-alt"},     {"embedding", "sks-cat"}, {"upscaler", "realesrgan-x2"}};
  const json everything = {{"lora", {{"models", json::array({{{"name", "kohya"}}})}}},
                           {"controlnet",
                            {{"model", "tiny-controlnet-a"},
                             {"control_image", "inputs/control-a.png"},
                             {"preprocessor", {{"enabled", false}}}}},
                           {"resize_mode", "stretch"},
                           {"embeddings", json::array({{{"token", "<sks-cat>"}, {"model", "sks-cat"}}})},
                           {"models", {{"vae", "tiny-vae-alt"}}},
                           {"output", {{"upscale", {{"method", "realesrgan-x2"}, {"factor", 2}}}}}};
  test::WorkerProgram cold = start();
  cold.send("inference_request", "cold", job(everything));
  ASSERT_TRUE(cold.response_to("cold")["success"]);

  test::WorkerProgram worker = start();
  std::set<std::string> expected;
  for (const auto& [kind, name] : models) {
    worker.send("model_load_request", "load", {{"model_name", name}, {"kind", kind}});
    EXPECT_EQ(worker.response_to("load")["data"]["model_loaded"], name);
    expected.insert(kind + " " + name);
    EXPECT_EQ(loaded(worker), expected);
  }
  worker.send("inference_request", "warm", job(everything));
  ASSERT_TRUE(worker.response_to("warm")["success"]);
  EXPECT_TRUE(bytes_of(root_ / "outputs/warm.png") == bytes_of(root_ / "outputs/cold.png"));
  EXPECT_EQ(loaded(worker), expected) << "the job took other models than those that were loaded";

  for (const auto& [kind, name] : models) {
    worker.send("model_unload_request", "unload", {{"model_name", name}, {"kind", kind}});
    EXPECT_EQ(worker.response_to("unload")["data"]["model_unloaded"], name);
    expected.erase(kind + " " + name);
    EXPECT_EQ(loaded(worker), expected);
  }
}

TEST_F(Loads, WhatIsNoneOfItsKindIsRefusedAndNotKept) {
  put_model("loras/kohya.safetensors", "embeddings/kohya.safetensors");
  put_model("upscalers/realesrgan-x2-new-keys.safetensors", "loras/upscaler.safetensors");
  put_model("loras/kohya.safetensors", "controlnets/kohya.safetensors");
  test::WorkerProgram worker = start();
  for (const auto& [kind, name, why] : {std::array<const char*, 3>{"embedding", "kohya", "a model of the kind lora"},
                                        {"lora", "upscaler", "a model of the kind upscaler"},
                                        {"controlnet", "kohya", "kohya.safetensors"}}) {
    worker.send("model_load_request", "load", {{"model_name", name}, {"kind", kind}});
    const json answer = worker.response_to("load");
    EXPECT_EQ(answer["success"], false) << kind;
    EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr(why));
    EXPECT_TRUE(loaded(worker).empty());
  }
}

}  // namespace
}  // namespace darkroom
