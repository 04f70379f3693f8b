#include "config/config.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string written(const std::string& text) {
  std::string path = testing::TempDir() + "/config_test_" + std::to_string(::getpid()) + ".toml";
  std::ofstream(path) << text;
  return path;
}

TEST(Config, TheExampleFileListsEveryKeyWithItsDefault) {
  const std::string path = std::string(DARKROOM_SOURCE_DIR) + "/config/darkroom.example.toml";
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(text, example_config()) << "write it anew from the text above";
}

TEST(Config, TheExampleFileReadsBackAsTheDefaults) {
  const Result<Config> config = load_config(written(example_config()), {});
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->limits.max_side, 2048);
  EXPECT_THAT(config->models.directories, ElementsAre("models"));
}

TEST(Config, TheEnvironmentWinsOverTheFileAndFlagsOverTheEnvironment) {
  const char* const environment[] = {"DARKROOM_LIMITS__MIN_SIDE=64",
                                     "DARKROOM_LIMITS__MAX_STEPS=7",
                                     "DARKROOM_MODELS=/a:/b",
                                     "DARKROOM_WORKER=/x/darkroom-worker",
                                     "HOME=/",
                                     nullptr};
  std::vector<Setting> settings = settings_from_environment(environment);
  settings.push_back({"limits.max_steps", "9", "--max-steps"});
  const Result<Config> config = load_config(written("[limits]\nmin_side = 128\nmax_batch = 3\n"), settings);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->limits.min_side, 64);
  EXPECT_EQ(config->limits.max_steps, 9);
  EXPECT_EQ(config->limits.max_batch, 3);
  EXPECT_THAT(config->models.directories, ElementsAre("/a", "/b"));
}

TEST(Config, AllMistakesAreInOneError) {
  const Result<Config> config =
      load_config(written("[limits]\nmin_sid = 64\nmax_side = \"big\"\nmax_guidance = nan\n[worker]\nthreads = -1\n"),
                  {{"limits.max_step", "1", "DARKROOM_LIMITS__MAX_STEP"}, {"worker.threads", "many", "--threads"}});
  ASSERT_FALSE(config);
  const std::string& message = config.error().message;
  EXPECT_THAT(message, HasSubstr("/limits/min_sid: is not known; did you mean min_side?"));
  EXPECT_THAT(message, HasSubstr("/limits/max_side: expected a whole number, found \"big\""));
  EXPECT_THAT(message, HasSubstr("/limits/max_guidance: is nan, must be between 0 and 1000"));
  EXPECT_THAT(message, HasSubstr("/worker/threads: is -1, must be between 0 and 4096"));
  EXPECT_THAT(message,
              HasSubstr("DARKROOM_LIMITS__MAX_STEP: names no key: limits.max_step; did you mean limits.max_step"));
  EXPECT_THAT(message, HasSubstr("--threads: expected a whole number, found \"many\""));
}

TEST(Config, AFileThatIsNotTomlIsNamedWithItsLine) {
  const std::string path = written("[limits]\nmin_side == 1\n");
  const Result<Config> config = load_config(path, {});
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr(path + ":2"));
}

TEST(Config, AMissingFileIsAnError) { EXPECT_FALSE(load_config("/nowhere/darkroom.toml", {})); }

}  // namespace
}  // namespace darkroom
