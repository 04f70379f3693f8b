// A darkroom-worker on a directory of its own, with models of the reference vectors.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "engine/image/codec.h"
#include "tests/support/tiny_models.h"
#include "tests/support/worker_program.h"

namespace darkroom {

// The reference pictures are smaller than the specification allows.
inline constexpr int kLeastSide = 64;  // pixels

class RealWorker : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = test->name();
    std::replace(name.begin(), name.end(), '/', '_');
    // In the build folder, so that models are linked and not copied.
    root_ = std::filesystem::path(DARKROOM_BINARY_DIR) / "worker-tests" / fmt::format("{}_{}", name, ::getpid());
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_ / "models");
    std::filesystem::create_directories(root_ / "outputs/inputs");
    for (const char* picture : {"init.png", "mask.png", "control-a.png", "control-b.png"}) {
      std::filesystem::copy(test::vectors_dir() / "images" / picture, root_ / "outputs/inputs");
    }
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Puts a tiny model, or a file of the vectors ("loras/kohya.safetensors"), into the models directory.
  void put_model(const std::string& from, const std::string& as) const {
    namespace fs = std::filesystem;
    const fs::path vector = test::vectors_dir() / from;
    const bool is_vector = fs::is_regular_file(vector);
    fs::create_directories((root_ / "models" / as).parent_path());
    const auto how =
        fs::copy_options::recursive | (is_vector ? fs::copy_options::none : fs::copy_options::create_hard_links);
    fs::copy(is_vector ? vector : test::tiny_model(from), root_ / "models" / as, how);
  }

  test::WorkerSettings settings(const std::string& worker_section = "") const {
    return {.program = std::filesystem::path(DARKROOM_BINARY_DIR) / "bin/darkroom-worker",
            .root = root_,
            .config = fmt::format("[limits]\nmin_side = {}\n[worker]\n{}\n", kLeastSide, worker_section),
            .limits = ""};
  }
  test::WorkerProgram start(const std::string& worker_section = "") const {
    return test::WorkerProgram(settings(worker_section));
  }

  static std::string bytes_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static engine::Image picture_at(const std::filesystem::path& path) {
    const std::string bytes = bytes_of(path);
    return engine::to_rgb(value_or_throw(engine::decode_image(std::as_bytes(std::span(bytes)))));
  }

  std::filesystem::path root_;
};

}  // namespace darkroom
