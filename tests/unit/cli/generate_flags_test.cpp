#include "cli/generate_flags.h"

#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/progress_bar.h"
#include "spec/generation_codec.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// All flags, given this command line.
class Parsed {
 public:
  explicit Parsed(std::vector<std::string> arguments) {
    flags_.add_text_to_image(app_);
    flags_.add_steering(app_);
    std::reverse(arguments.begin(), arguments.end());  // as the library wants them
    app_.parse(arguments);
    data = flags_.data(complaints);
  }

  // What is wrong with the flags, in their words.
  std::vector<std::string> mistakes() {
    std::vector<Complaint> all = complaints;
    if (auto request = decode_generation(data, Limits{}); !request) {
      for (Complaint& complaint : flags_.in_flags(std::move(request.error()))) all.push_back(std::move(complaint));
    }
    std::vector<std::string> lines;
    for (const Complaint& complaint : all) lines.push_back(complaint.pointer + ": " + complaint.message);
    return lines;
  }
  GenerationSpec spec() {
    EXPECT_THAT(mistakes(), IsEmpty());
    return decode_generation(data, Limits{}).value().spec;
  }

  std::vector<Complaint> complaints;
  json data;

 private:
  CLI::App app_;
  GenerateFlags flags_;
};

TEST(GenerateFlags, EachFlagReachesItsField) {
  const GenerationSpec spec = Parsed({"--model",
                                      "sdxl",
                                      "--prompt",
                                      "a cat",
                                      "--negative-prompt",
                                      "",
                                      "--prompt-2",
                                      "p2",
                                      "--negative-prompt-2",
                                      "n2",
                                      "--width",
                                      "832",
                                      "--height",
                                      "1216",
                                      "--steps",
                                      "30",
                                      "--guidance-scale",
                                      "5.5",
                                      "--scheduler",
                                      "DPM++ 2M Karras",
                                      "--scheduler-option",
                                      "use_karras_sigmas=true",
                                      "--scheduler-option",
                                      "x=text",
                                      "--seed",
                                      "18446744073709551615",
                                      "--batch-size",
                                      "2",
                                      "--precision",
                                      "float32",
                                      "--original-size",
                                      "1024x768",
                                      "--crop",
                                      "1,2",
                                      "--target-size",
                                      "512x256",
                                      "--output",
                                      "/o/x.jpg",
                                      "--quality",
                                      "80"})
                                  .spec();
  EXPECT_EQ(spec.model, "sdxl");
  EXPECT_EQ(spec.negative_prompt, "");
  EXPECT_EQ(spec.prompt_2, "p2");
  EXPECT_EQ(spec.negative_prompt_2, "n2");
  EXPECT_EQ(spec.width, 832);
  EXPECT_EQ(spec.height, 1216);
  EXPECT_EQ(spec.steps, 30);
  EXPECT_EQ(spec.guidance_scale, 5.5F);
  EXPECT_EQ(spec.scheduler.name, "DPM++ 2M Karras");
  EXPECT_THAT(spec.scheduler.options,
              ElementsAre(SchedulerOption{"use_karras_sigmas", "true"}, SchedulerOption{"x", "\"text\""}));
  EXPECT_EQ(spec.seed, 18446744073709551615U);
  EXPECT_EQ(spec.batch_size, 2);
  EXPECT_EQ(spec.precision, Precision::float32);
  EXPECT_EQ(spec.micro_conditioning.original_size, (Size{1024, 768}));
  EXPECT_EQ(spec.micro_conditioning.crop_top_left, (Point{1, 2}));
  EXPECT_EQ(spec.micro_conditioning.target_size, (Size{512, 256}));
  EXPECT_EQ(spec.output.path, "/o/x.jpg");
  EXPECT_EQ(spec.output.format, ImageFormat::jpeg);
  EXPECT_EQ(spec.output.quality, 80);
}

TEST(GenerateFlags, EachSteeringFlagReachesItsField) {
  const GenerationSpec spec = Parsed({"--model",
                                      "sdxl",
                                      "--prompt",
                                      "a",
                                      "--init-image",
                                      "/i.png",
                                      "--strength",
                                      "0.4",
                                      "--mask-image",
                                      "/m.png",
                                      "--resize-mode",
                                      "crop",
                                      "--extend",
                                      "1,2,3,4",
                                      "--vae",
                                      "v",
                                      "--refiner",
                                      "r",
                                      "--refiner-switch",
                                      "0.8",
                                      "--lora",
                                      "a",
                                      "--lora",
                                      "b:0.5",
                                      "--lora",
                                      "c:-1:0.25",
                                      "--controlnet",
                                      "c1=/c.png",
                                      "--controlnet",
                                      "c2=/d.png:0.7:0.1:0.9:type=canny:preprocess=canny,100,200",
                                      "--guess-mode",
                                      "--embedding",
                                      "<x>=emb",
                                      "--prompt-syntax",
                                      "webui",
                                      "--clip-skip",
                                      "1",
                                      "--guidance-rescale",
                                      "0.7",
                                      "--pag-scale",
                                      "3",
                                      "--variation-seed",
                                      "4",
                                      "--variation-strength",
                                      "0.1",
                                      "--tile-x",
                                      "--upscaler",
                                      "lanczos",
                                      "--upscale-factor",
                                      "4",
                                      "--hires-factor",
                                      "1.5",
                                      "--vae-tile",
                                      "64",
                                      "--aesthetic-score",
                                      "7"})
                                  .spec();
  EXPECT_EQ(spec.init_image->path, "/i.png");
  EXPECT_EQ(spec.strength, 0.4F);
  EXPECT_EQ(spec.mask_image->path, "/m.png");
  EXPECT_EQ(spec.resize_mode, ResizeMode::crop);
  EXPECT_EQ(spec.extend.bottom, 4);
  EXPECT_EQ(spec.vae, "v");
  EXPECT_EQ(spec.refiner->switch_at, 0.8F);
  ASSERT_EQ(spec.loras.size(), 3U);
  EXPECT_EQ(spec.loras[1].text_encoder_weight, 0.5F);
  EXPECT_EQ(spec.loras[2].text_encoder_weight, 0.25F);
  ASSERT_EQ(spec.controlnets.size(), 2U);
  EXPECT_EQ(spec.controlnets[1].image.path, "/d.png");
  EXPECT_EQ(spec.controlnets[1].end, 0.9F);
  EXPECT_EQ(spec.controlnets[1].type, "canny");
  EXPECT_THAT(spec.controlnets[1].preprocess.arguments, ElementsAre(100.0F, 200.0F));
  EXPECT_TRUE(spec.guess_mode);
  EXPECT_EQ(spec.embeddings.at(0).token, "<x>");
  EXPECT_EQ(spec.prompt_syntax, PromptSyntax::webui);
  EXPECT_EQ(spec.variation->seed, 4U);
  EXPECT_TRUE(spec.tile_x);
  EXPECT_EQ(spec.upscale->model, "lanczos");
  EXPECT_EQ(spec.upscale->factor, 4.0F);
  EXPECT_EQ(spec.hires->factor, 1.5F);
  EXPECT_EQ(spec.vae_tile, 64);
}

TEST(GenerateFlags, AllMistakesAreToldInTheWordsOfTheCommandLine) {
  EXPECT_THAT(
      Parsed({"--prompt", "", "--width", "250", "--height", "tall", "--steps", "0", "--seed", "1.5", "--lora", "a:3",
              "--original-size", "0x5", "--precision", "float64"})
          .mistakes(),
      ElementsAre("--prompt: must not be empty", "--lora: is 3, must be between -2 and 2",
                  "--width: is 250, must be between 256 and 2048", "--width: is 250, must be a multiple of 8",
                  "--height: expected a whole number, found \"tall\"",
                  "--original-size: is 0, must be between 1 and 32768", "--steps: is 0, must be between 1 and 150",
                  "--seed: expected a whole number, found 1.5",
                  "--precision: is \"float64\", must be auto, float32, bfloat16 or int8", "--model: is required"));
}

TEST(GenerateFlags, AValueOfTheWrongFormIsNamedWithTheFormThatIsMeant) {
  EXPECT_THAT(
      Parsed({"--model", "m", "--prompt", "a", "--crop", "5", "--scheduler-option", "x", "--controlnet", "c",
              "--embedding", "=x"})
          .mistakes(),
      ElementsAre("--scheduler-option: is \"x\", must have the form KEY=VALUE",
                  "--crop: is \"5\", must have the form X,Y", HasSubstr("--controlnet: is \"c\", must have the form"),
                  "--embedding: is \"=x\", must have the form TOKEN=MODEL"));
}

TEST(GenerateFlags, APreprocessorsMistakeIsItsFlags) {
  EXPECT_THAT(Parsed({"--model", "m", "--prompt", "a", "--controlnet", "c=/c.png:0.5:3", "--controlnet",
                      "d=/d.png:preprocess=sketch", "--preprocess", "depth:x"})
                  .mistakes(),
              ElementsAre(HasSubstr("--controlnet: is 3, must be between 0 and 1"),
                          HasSubstr("--preprocess: expected a number, found \"x\""),
                          HasSubstr("--preprocess: is \"depth\", must be canny, "),
                          HasSubstr("--controlnet: is 3, after the end"),
                          HasSubstr("--controlnet: is \"sketch\", must be canny, ")));
}

TEST(GenerateFlags, APromptThatIsNotUtf8IsNamedWithTheByte) {
  EXPECT_THAT(Parsed({"--model", "m", "--prompt", "caf\xe9"}).mistakes(),
              testing::Contains("--prompt: is not UTF-8: byte 3 (counted from 0) belongs to no character"));
}

TEST(GenerateFlags, AModelThatExistsAsAFileIsAPathElseAName) {
  EXPECT_EQ(Parsed({"--model", "/usr"}).data["models"]["base"], "/usr");
  EXPECT_EQ(Parsed({"--model", "no-such-file"}).data["models"]["base"], "no-such-file");
  EXPECT_EQ(Parsed({"--output", "x.png"}).data["output"]["save_path"],
            (std::filesystem::current_path() / "x.png").string());
}

TEST(ProgressLine, ShowsStageStepAndTimeLeft) {
  EXPECT_EQ(progress_line({.stage = "load"}), "load");
  EXPECT_EQ(progress_line({.stage = "denoise", .step = 5, .steps = 10, .seconds_left = 3.24}),
            "denoise  [###############...............] 5/10, 3.2 s left");
}

}  // namespace
}  // namespace darkroom
