// The service over loopback with fake-worker, which makes plain pictures as their prompts tell it, and some models by
// name.
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "service/service.h"
#include "tests/support/fast_directory.h"
#include "tests/support/raw_client.h"

namespace darkroom {

class Served : public testing::Test {
 protected:
  void SetUp() override {
    namespace fs = std::filesystem;
    directory_ = fast_directory("served");
    fs::remove_all(directory_);
    const fs::path models = directory_ / "models";
    // What tells a folder apart is enough for a worker that looks into none.
    write_file(models / "checkpoints" / "sdxl" / "model_index.json", R"({"_class_name": "StableDiffusionXLPipeline"})");
    write_file(models / "checkpoints" / "refiner" / "model_index.json",
               R"({"_class_name": "StableDiffusionXLImg2ImgPipeline"})");
    for (const char* file :
         {"loras/watercolor", "vaes/fixed", "controlnets/canny-xl", "embeddings/badhands", "upscalers/4x-UltraSharp"}) {
      write_file(models / (std::string(file) + ".safetensors"), tiny_safetensors());
    }
    config_.models.directories = {models.string()};
    config_.service.data = (directory_ / "data").string();
    config_.service.model = "sdxl";
    config_.outputs.directory = (directory_ / "outputs").string();
    config_.http.listen = "127.0.0.1:0";
    config_.http.log_level = "error";
    fs::create_directories(config_.service.data);
  }
  void TearDown() override {
    service_.reset();
    std::filesystem::remove_all(directory_);
  }

  // Until a worker has said what models there are.
  void start() {
    Result<std::unique_ptr<Service>> service =
        Service::start({.config = config_,
                        .worker = std::filesystem::path(DARKROOM_BINARY_DIR) / "bin" / "fake-worker",
                        .worker_arguments = {"--models", (directory_ / "models").string()}});
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
    until([this] { return request(service_->port(), "GET", "/readyz").status == 200; });
  }

  // A test that waits for ever is ended by its runner.
  template <class Holds>
  static void until(Holds&& holds) {
    while (!holds()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  std::filesystem::path directory_;
  Config config_;
  std::unique_ptr<Service> service_;

 private:
  static void write_file(const std::filesystem::path& path, const std::string& text) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }

  // One float: what a file of some role needs to be one.
  static std::string tiny_safetensors() {
    const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    std::string size(8, '\0');
    size[0] = static_cast<char>(header.size());
    return size + header + std::string(4, '\0');
  }
};

}  // namespace darkroom
