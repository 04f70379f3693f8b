#include "engine/pipeline/model_cache.h"

#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

namespace darkroom::engine {
namespace {

struct FakeModel final : LaidOutModel {
  explicit FakeModel(std::uint64_t size) : size_(size) {}
  std::uint64_t bytes() const override { return size_; }
  std::uint64_t size_;
};

class ModelCacheTest : public testing::Test {
 protected:
  std::shared_ptr<FakeModel> get(const std::string& path, std::uint64_t bytes = 10) {
    return cache_.get<FakeModel>({.role = ModelRole::checkpoint, .path = path}, bytes, [&] {
      ++made_;
      return std::make_shared<FakeModel>(bytes);
    });
  }
  ModelCache cache_{25};
  int made_ = 0;
};

TEST_F(ModelCacheTest, KeepsWhatWasMade) {
  const auto first = get("a");
  EXPECT_EQ(get("a"), first);
  EXPECT_EQ(made_, 1);
}

TEST_F(ModelCacheTest, TheLeastRecentlyUsedGoesFirst) {
  get("a");
  get("b");
  get("a");
  get("c");
  ASSERT_EQ(cache_.kept().size(), 2U);
  EXPECT_EQ(cache_.kept()[0].key.path, "c");
  EXPECT_EQ(cache_.kept()[1].key.path, "a");
}

TEST_F(ModelCacheTest, WhatSomebodyHoldsStaysUntilItIsLetGo) {
  auto held = get("a");
  get("b");
  get("c", 20);
  ASSERT_EQ(cache_.kept().size(), 2U);
  EXPECT_EQ(cache_.kept()[1].key.path, "a");
  held.reset();
  cache_.trim();
  EXPECT_EQ(cache_.kept().size(), 1U);
}

TEST_F(ModelCacheTest, TrimmingLeavesTheLastUsedHoweverLarge) {
  get("a", 100);
  cache_.trim();
  EXPECT_EQ(cache_.kept().size(), 1U);
}

TEST_F(ModelCacheTest, AnotherTypeIsAnotherModel) {
  const ModelKey bf16{.role = ModelRole::checkpoint, .path = "a", .types = {.model = DType::bf16, .vae = DType::bf16}};
  get("a");
  cache_.get<FakeModel>(bf16, 1, [] { return std::make_shared<FakeModel>(1); });
  EXPECT_EQ(cache_.kept().size(), 2U);
  EXPECT_EQ(cache_.forget("a"), 2U);
}

TEST_F(ModelCacheTest, AFileThatWasReplacedIsReadAgain) {
  const std::string path = "/tmp/model_cache_test_" + std::to_string(::getpid());
  std::ofstream(path) << "one";
  get(path);
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(5));
  get(path);
  EXPECT_EQ(made_, 2);
  EXPECT_EQ(cache_.kept().size(), 1U);
  std::filesystem::remove(path);
}

TEST_F(ModelCacheTest, AFolderOfWhichAFileWasReplacedIsReadAgain) {
  const std::filesystem::path folder = "/tmp/model_cache_test_folder_" + std::to_string(::getpid());
  std::filesystem::create_directories(folder / "unet");
  std::ofstream(folder / "unet/weights") << "one";
  const auto time = std::filesystem::last_write_time(folder / "unet/weights");
  get(folder);
  get(folder);
  EXPECT_EQ(made_, 1);
  std::ofstream(folder / "unet/weights") << "other";
  std::filesystem::last_write_time(folder / "unet/weights", time);
  get(folder);
  EXPECT_EQ(made_, 2);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace darkroom::engine
