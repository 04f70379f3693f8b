#include "metadata/infotext.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using testing::ElementsAre;
using testing::Pair;

const Infotext kUsual{"a cat, (sitting:1.2)",
                      "blurry",
                      {{"Steps", "20"},
                       {"Sampler", "Euler a"},
                       {"CFG scale", "7"},
                       {"Seed", "1"},
                       {"Size", "512x512"},
                       {"Model", "sd_xl_base_1.0"}}};

TEST(Infotext, IsWrittenAsWebuiWritesIt) {
  EXPECT_EQ(to_infotext(kUsual),
            "a cat, (sitting:1.2)\nNegative prompt: blurry\n"
            "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: sd_xl_base_1.0");
  EXPECT_EQ(to_infotext({"a cat", "", {{"Steps", "20"}}}), "a cat\nSteps: 20");
  EXPECT_EQ(to_infotext({"a cat", "", {}}), "a cat");
}

TEST(Infotext, ComesBackTheSame) {
  Infotext odd = kUsual;
  odd.prompt = "first line\n\nthird line: with, commas";
  odd.negative_prompt = "ugly,\nbad: hands";
  odd.settings.insert(odd.settings.begin() + 1, {{"Lora hashes", "a: 12, b: 34"},
                                                 {"Template", "line\nbreak \"quoted\" \\ back"},
                                                 {"Schedule-type/x", "ünïcode 猫"},
                                                 {"Empty", ""},
                                                 {"Padded", " x "},
                                                 {"Quote", "\"x\""}});
  for (const Infotext& info : {kUsual, odd, Infotext{"", "", kUsual.settings}, Infotext{"", "no", kUsual.settings},
                               Infotext{"only a prompt", "", {}}, Infotext{}}) {
    const auto parsed = parse_infotext(to_infotext(info));
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(*parsed, info) << to_infotext(info);
  }
}

TEST(Infotext, OfCivitaiIsRead) {
  const auto info = parse_infotext(
      "masterpiece, <lora:add_detail:0.5>\r\nNegative prompt: EasyNegative\r\n"
      "Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7.0, Seed: 123, Size: 1024x1024, Model hash: 31e35c80fc, "
      "Lora hashes: \"add_detail: 7c6bad76eb54\", Hires upscale: 1.5, Civitai resources: [{\"type\":\"x\"}], "
      "Version: v1.6.0");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->prompt, "masterpiece, <lora:add_detail:0.5>");
  EXPECT_EQ(info->negative_prompt, "EasyNegative");
  EXPECT_THAT(info->settings,
              testing::IsSupersetOf({Pair("Sampler", "DPM++ 2M Karras"), Pair("Model hash", "31e35c80fc"),
                                     Pair("Lora hashes", "add_detail: 7c6bad76eb54"), Pair("Version", "v1.6.0")}));
}

TEST(Infotext, TakesALastLineWithFewerThanThreeSettingsForThePrompt) {
  const auto info = parse_infotext("a cat\nSteps: 20, Seed: 1");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->prompt, "a cat\nSteps: 20, Seed: 1");
  EXPECT_TRUE(info->settings.empty());
}

TEST(Infotext, PassesOverWhatIsNoSetting) {
  const auto info = parse_infotext("p\n???, Steps: 20, x: 1, : , Seed: \"5\" tail, \"Size: 64x64");
  ASSERT_TRUE(info);
  EXPECT_THAT(info->settings, ElementsAre(Pair("Steps", "20"), Pair("Seed", "\"5\" tail"), Pair("Size", "64x64")));
}

TEST(Infotext, RefusesTextThatIsNotUtf8) {
  const auto info = parse_infotext("a\xfe");
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(info.error().message, testing::HasSubstr("byte 1"));
}

}  // namespace
}  // namespace darkroom
