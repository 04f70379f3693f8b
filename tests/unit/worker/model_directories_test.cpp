#include "worker/model_directories.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ModelDirectoriesTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::weakly_canonical(testing::TempDir()) / ("models_" + std::to_string(::getpid()));
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  fs::path put(const std::string& name) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << "x";
    return root_ / name;
  }
  ModelDirectories inside() const { return {{root_.string()}, ModelDirectories::Reach::inside}; }
  std::string found(ModelRole role, const std::string& name) const {
    const Result<fs::path> path = inside().find(role, name);
    return path ? path->lexically_relative(root_).string() : path.error().message;
  }

  fs::path root_;
};

TEST_F(ModelDirectoriesTest, OurFoldersComfyUisAndTheWebuisAreSearched) {
  for (const char* file : {"checkpoints/a.safetensors", "Stable-diffusion/b.ckpt", "diffusers/c/model_index.json"})
    put(file);
  for (const char* file :
       {"loras/a.safetensors", "Lora/b.safetensors", "controlnet/c.pth", "ControlNet/d.pth", "vae/e.pt", "VAE/f.pt",
        "embeddings/g.pt", "upscale_models/h.pth", "ESRGAN/i.pth", "RealESRGAN/j.pth"}) {
    put(file);
  }
  EXPECT_EQ(found(ModelRole::checkpoint, "a"), "checkpoints/a.safetensors");
  EXPECT_EQ(found(ModelRole::checkpoint, "b"), "Stable-diffusion/b.ckpt");
  EXPECT_EQ(found(ModelRole::checkpoint, "c"), "diffusers/c");
  EXPECT_EQ(found(ModelRole::lora, "a"), "loras/a.safetensors");
  EXPECT_EQ(found(ModelRole::lora, "b"), "Lora/b.safetensors");
  EXPECT_EQ(found(ModelRole::controlnet, "c"), "controlnet/c.pth");
  EXPECT_EQ(found(ModelRole::controlnet, "d"), "ControlNet/d.pth");
  EXPECT_EQ(found(ModelRole::vae, "f"), "VAE/f.pt");
  EXPECT_EQ(found(ModelRole::embedding, "g"), "embeddings/g.pt");
  EXPECT_EQ(found(ModelRole::upscaler, "j"), "RealESRGAN/j.pth");
}

TEST_F(ModelDirectoriesTest, ANameMayHaveItsFolderAndExtension) {
  put("checkpoints/xl/pony.safetensors");
  put("top.safetensors");
  for (const char* name : {"pony", "xl/pony", "pony.safetensors", "xl/pony.safetensors"}) {
    EXPECT_EQ(found(ModelRole::checkpoint, name), "checkpoints/xl/pony.safetensors") << name;
  }
  EXPECT_EQ(found(ModelRole::checkpoint, (root_ / "checkpoints/xl/pony.safetensors").string()),
            "checkpoints/xl/pony.safetensors");
  EXPECT_EQ(found(ModelRole::lora, "top"), "top.safetensors");
  EXPECT_THAT(found(ModelRole::checkpoint, "pony.ckpt"), HasSubstr("there is no checkpoint \"pony.ckpt\""));
}

TEST_F(ModelDirectoriesTest, TheSaferFormatCountsAndTheFirstDirectory) {
  put("one/checkpoints/a.ckpt");
  put("one/checkpoints/a.safetensors");
  put("two/checkpoints/b.safetensors");
  put("one/checkpoints/b.safetensors");
  const ModelDirectories models({(root_ / "one").string(), (root_ / "two").string()}, ModelDirectories::Reach::inside);
  EXPECT_EQ(models.find(ModelRole::checkpoint, "a").value(), root_ / "one/checkpoints/a.safetensors");
  EXPECT_EQ(models.find(ModelRole::checkpoint, "b").value(), root_ / "one/checkpoints/b.safetensors");
}

TEST_F(ModelDirectoriesTest, AMisspeltNameGetsNearMatches) {
  put("checkpoints/juggernaut.safetensors");
  EXPECT_THAT(found(ModelRole::checkpoint, "jugernaut"), HasSubstr("did you mean juggernaut?"));
  EXPECT_THAT(found(ModelRole::lora, "jugernaut"), testing::Not(HasSubstr("did you mean")));
}

TEST_F(ModelDirectoriesTest, NoPathAndNoLinkLeadsOut) {
  put("inside/checkpoints/a.safetensors");
  put("outside.safetensors");
  fs::create_symlink(root_ / "outside.safetensors", root_ / "inside/checkpoints/link.safetensors");
  fs::create_directory_symlink(root_, root_ / "inside/checkpoints/folder");
  const ModelDirectories models({(root_ / "inside").string()}, ModelDirectories::Reach::inside);
  for (const std::string& name :
       {std::string("../outside"), std::string("../outside.safetensors"), (root_ / "outside.safetensors").string(),
        std::string("/etc/passwd"), std::string("link"), std::string("folder/outside"),
        std::string("../inside/checkpoints/../../outside")}) {
    const Result<fs::path> path = models.find(ModelRole::checkpoint, name);
    ASSERT_FALSE(path) << name;
    EXPECT_NE(path.error().code, ErrorCode::internal) << name;
  }
  EXPECT_EQ(models.list(std::nullopt).size(), 1U);
  // A user who may name any file may also keep his files elsewhere.
  const ModelDirectories own({(root_ / "inside").string()}, ModelDirectories::Reach::anywhere);
  EXPECT_EQ(own.find(ModelRole::checkpoint, "link"), root_ / "outside.safetensors");
}

TEST_F(ModelDirectoriesTest, TheUserMayNameAnyFileOfHis) {
  const fs::path file = put("elsewhere/a.safetensors");
  const ModelDirectories models({(root_ / "empty").string()}, ModelDirectories::Reach::anywhere);
  EXPECT_EQ(models.find(ModelRole::checkpoint, file.string()).value(), file);
}

TEST_F(ModelDirectoriesTest, AWordFindsTheOnlyModelThatHasItInItsName) {
  put("controlnets/controlnet-canny-sdxl.safetensors");
  put("controlnets/controlnet-depth-small.safetensors");
  put("controlnets/controlnet-depth-full.safetensors");
  EXPECT_EQ(inside().find_by_word(ModelRole::controlnet, "Canny").value().filename(),
            "controlnet-canny-sdxl.safetensors");
  EXPECT_THAT(inside().find_by_word(ModelRole::controlnet, "depth").error().message,
              HasSubstr("controlnet-depth-full, controlnet-depth-small; name one of them"));
  EXPECT_EQ(inside().find_by_word(ModelRole::controlnet, "pose").error().code, ErrorCode::not_found);
}

TEST_F(ModelDirectoriesTest, TheListSaysWhatIsInAModel) {
  const ModelDirectories models({std::string(DARKROOM_SOURCE_DIR) + "/demo"}, ModelDirectories::Reach::inside);
  const std::vector<ModelEntry> list = models.list(std::nullopt);
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].name, "model");
  EXPECT_EQ(list[0].kind, ModelRole::checkpoint);
  EXPECT_EQ(list[0].format, "diffusers_folder");
  EXPECT_THAT(list[0].compute_types, testing::ElementsAre("float16"));
  EXPECT_EQ(list[0].problem, "");
}

}  // namespace
}  // namespace darkroom
