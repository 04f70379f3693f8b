#include "metadata/model_hashes.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace darkroom {
namespace {

namespace fs = std::filesystem;

const std::string kDigest(64, 'a');

class ModelHashesTest : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(directory_); }
  void TearDown() override { fs::remove_all(directory_); }

  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name, std::ios::binary) << text;
    return directory_ / name;
  }

  const fs::path directory_ = fs::path(testing::TempDir()) / fmt::format("model_hashes_{}", ::getpid());
};

TEST_F(ModelHashesTest, AreThereAgainAfterAStart) {
  const fs::path model = write("pony.safetensors", "weights");
  const fs::path kept = directory_ / "hashes.json";
  Result<ModelHashes> hashes = ModelHashes::load(kept);
  ASSERT_TRUE(hashes) << hashes.error().message;
  EXPECT_EQ(hashes->find(model), std::nullopt);
  hashes->set(model, *stamp_of(model), kDigest);
  EXPECT_EQ(hashes->find(model), kDigest);
  ASSERT_TRUE(hashes->save(kept));
  const Result<ModelHashes> again = ModelHashes::load(kept);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->find(model), kDigest);
}

TEST_F(ModelHashesTest, HoldForTheFileThatWasRead) {
  const fs::path model = write("pony.safetensors", "weights");
  ModelHashes hashes;
  hashes.set(model, *stamp_of(model), kDigest);
  const auto changed = fs::last_write_time(model);
  write("pony.safetensors", "other weights");
  fs::last_write_time(model, changed);
  EXPECT_EQ(hashes.find(model), std::nullopt);  // another size
  write("pony.safetensors", "WEIGHTS");
  fs::last_write_time(model, changed + std::chrono::nanoseconds(1000));
  EXPECT_EQ(hashes.find(model), std::nullopt);  // another time
  fs::remove(model);
  EXPECT_EQ(hashes.find(model), std::nullopt);
  EXPECT_EQ(stamp_of(directory_), std::nullopt);  // no file
}

TEST_F(ModelHashesTest, ForgetsWhatIsGone) {
  const fs::path model = write("pony.safetensors", "weights");
  const FileStamp stamp = *stamp_of(model);
  ModelHashes hashes;
  hashes.set(model, stamp, kDigest);
  fs::rename(model, directory_ / "away");
  hashes.forget_missing();
  fs::rename(directory_ / "away", model);
  EXPECT_EQ(hashes.find(model), std::nullopt);
}

TEST_F(ModelHashesTest, SaysWhatIsWrongWithItsFile) {
  for (const char* text :
       {"{", "[]", R"({"files": {"/a": {"bytes": -1, "changed": 1, "sha256": "a"}}})", R"({"x": 1})"}) {
    const Result<ModelHashes> damaged = ModelHashes::load(write("hashes.json", text));
    ASSERT_FALSE(damaged) << text;
    EXPECT_EQ(damaged.error().code, ErrorCode::corrupt_data);
    EXPECT_THAT(damaged.error().message, testing::HasSubstr("hashes.json"));
  }
}

}  // namespace
}  // namespace darkroom
