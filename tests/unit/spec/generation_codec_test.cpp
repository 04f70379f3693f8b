#include "spec/generation_codec.h"

#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Limits kLimits;

GenerationRequest decoded(const json& data) {
  auto request = decode_generation(data, kLimits);
  EXPECT_TRUE(request) << data << as_error(request.error()).message;
  return request ? *request : GenerationRequest{};
}

std::vector<std::string> complaints_about(const json& data) {
  const auto request = decode_generation(data, kLimits);
  std::vector<std::string> lines;
  if (request) return lines;
  for (const Complaint& complaint : request.error()) lines.push_back(complaint.pointer + ": " + complaint.message);
  return lines;
}

json minimal() { return {{"prompt", "a cat"}, {"models", {{"base", "sdxl"}}}}; }

json with(const std::string& pointer, const json& value) {
  json data = minimal();
  data[json::json_pointer(pointer)] = value;
  return data;
}

TEST(DecodeGeneration, TakesTheSpecificationsMessageAsItsTransformerWritesIt) {
  const GenerationRequest request = decoded(json::parse(R"({
      "worker_type": "enhanced_sdxl_worker", "prompt": "a cat", "negative_prompt": "", "model_name": "pony",
      "hyperparameters": {"num_inference_steps": 30, "guidance_scale": 7.5, "seed": 7, "strength": 0.8},
      "dimensions": {"width": 832, "height": 1216}, "scheduler": "DPMSolverMultistepScheduler",
      "models": {"base": "pony", "refiner": null, "vae": "vae-fix"},
      "lora": {"enabled": true, "models": [{"name": "style", "weight": -0.5}]},
      "controlnet": {"enabled": true, "type": "canny", "conditioning_scale": 0.9, "control_image": "in.png",
                     "preprocessor": {"enabled": true, "resolution": 512}},
      "output": {"format": "png", "quality": 95, "save_path": "outputs/",
                 "upscale": {"enabled": true, "factor": 2.0, "method": "realesrgan"}},
      "batch": {"size": 2, "parallel": false},
      "precision": {"dtype": "float16", "vae_dtype": "float32", "cpu_offload": false, "attention_slicing": true,
                    "vae_slicing": true},
      "metadata": {"request_id": "r1", "priority": "high", "timeout": 60, "tags": ["enhanced_sdxl"]}})"));
  const GenerationSpec& spec = request.spec;
  EXPECT_EQ(spec.model, "pony");
  EXPECT_EQ(spec.vae, "vae-fix");
  EXPECT_FALSE(spec.refiner);
  EXPECT_EQ(spec.negative_prompt, "");
  EXPECT_EQ(spec.steps, 30);
  EXPECT_EQ(spec.seed, 7U);
  EXPECT_EQ(spec.width, 832);
  EXPECT_EQ(spec.height, 1216);
  EXPECT_EQ(spec.scheduler.name, "DPMSolverMultistepScheduler");
  ASSERT_EQ(spec.loras.size(), 1U);
  EXPECT_EQ(spec.loras[0].unet_weight, -0.5F);
  EXPECT_EQ(spec.loras[0].text_encoder_weight, -0.5F);
  ASSERT_EQ(spec.controlnets.size(), 1U);
  EXPECT_EQ(spec.controlnets[0].type, "canny");
  EXPECT_EQ(spec.controlnets[0].preprocess.name, "canny");
  EXPECT_EQ(spec.controlnets[0].preprocess.resolution, 512);
  ASSERT_TRUE(spec.upscale);
  EXPECT_EQ(spec.upscale->model, "realesrgan");
  EXPECT_EQ(spec.batch_size, 2);
  EXPECT_EQ(spec.precision, Precision::bfloat16);
  EXPECT_EQ(spec.vae_precision, Precision::float32);
  EXPECT_EQ(request.job.priority, Priority::high);
  EXPECT_EQ(request.job.timeout, 60);
  EXPECT_THAT(request.job.tags, ElementsAre("enhanced_sdxl"));
  EXPECT_THAT(request.warnings, ElementsAre(HasSubstr("no float16")));
}

TEST(DecodeGeneration, WhatIsNotEnabledIsNotThere) {
  const GenerationSpec spec = decoded({{"prompt", "a"},
                                       {"model_name", "m"},
                                       {"lora", {{"enabled", false}, {"models", json::array({{{"name", "x"}}})}}},
                                       {"controlnet", {{"enabled", false}}},
                                       {"output", {{"upscale", {{"enabled", false}}}}}})
                                  .spec;
  EXPECT_THAT(spec.loras, IsEmpty());
  EXPECT_THAT(spec.controlnets, IsEmpty());
  EXPECT_FALSE(spec.upscale);
}

TEST(DecodeGeneration, TheOldFlatFormMeansTheSame) {
  const GenerationSpec spec = decoded({{"prompt", "a"},
                                       {"model_name", "m"},
                                       {"guidance_scale", 5},
                                       {"num_inference_steps", 12},
                                       {"seed", 9},
                                       {"strength", 0.4},
                                       {"width", 512},
                                       {"height", 768}})
                                  .spec;
  EXPECT_EQ(spec.model, "m");
  EXPECT_EQ(spec.guidance_scale, 5.0F);
  EXPECT_EQ(spec.steps, 12);
  EXPECT_EQ(spec.seed, 9U);
  EXPECT_EQ(spec.strength, 0.4F);
  EXPECT_EQ(spec.width, 512);
  EXPECT_EQ(spec.height, 768);
}

TEST(DecodeGeneration, FlatValuesWinOverNestedOnesButModelsBaseOverModelName) {
  const GenerationSpec spec = decoded({{"prompt", "a"},
                                       {"model_name", "old"},
                                       {"models", {{"base", "new"}}},
                                       {"guidance_scale", 5},
                                       {"hyperparameters", {{"guidance_scale", 6}}}})
                                  .spec;
  EXPECT_EQ(spec.model, "new");
  EXPECT_EQ(spec.guidance_scale, 5.0F);
}

TEST(DecodeGeneration, MinusOneDrawsASeedAndSoDoesNone) {
  std::set<std::uint64_t> seeds;
  for (int i = 0; i < 4; ++i) {
    seeds.insert(decoded(with("/hyperparameters/seed", -1)).spec.seed);
    seeds.insert(decoded(minimal()).spec.seed);
  }
  EXPECT_EQ(seeds.size(), 8U);
  EXPECT_EQ(decoded(with("/hyperparameters/seed", 18446744073709551615U)).spec.seed, 18446744073709551615U);
  EXPECT_THAT(complaints_about(with("/hyperparameters/seed", -2)), Contains(HasSubstr("/hyperparameters/seed: is -2")));
}

TEST(DecodeGeneration, AllMistakesAreInOneAnswer) {
  EXPECT_THAT(complaints_about(json::parse(R"({"prompt": " ", "models": {"base": ""},
                  "dimensions": {"width": 250, "height": 4096}, "hyperparameters": {"num_inference_steps": 0,
                  "guidance_scale": 31, "strength": 1.5}, "lora": {"enabled": true, "models": [{"name": "a", "weight": 2.5}]},
                  "batch": {"size": 10}, "output": {"quality": 0, "format": "bmp"}, "steps": 3})")),
              ElementsAre("/prompt: must not be empty", "/models/base: must not be empty",
                          "/lora/models/0/weight: is 2.5, must be between -2 and 2",
                          "/dimensions/width: is 250, must be between 256 and 2048",
                          "/dimensions/width: is 250, must be a multiple of 8",
                          "/dimensions/height: is 4096, must be between 256 and 2048",
                          "/batch/size: is 10, must be between 1 and 9",
                          "/hyperparameters/num_inference_steps: is 0, must be between 1 and 150",
                          "/hyperparameters/guidance_scale: is 31, must be between 1 and 30",
                          "/hyperparameters/strength: is 1.5, must be between 0 and 1",
                          "/output/format: is \"bmp\", must be png, jpeg, jpg or webp",
                          "/output/quality: is 0, must be between 1 and 100", "/models/base: is required",
                          "/steps: is not known; did you mean num_inference_steps?"));
}

TEST(DecodeGeneration, FieldsThatNeedEachOtherAreCheckedTogether) {
  EXPECT_THAT(complaints_about(with("/mask_image", "m.png")), ElementsAre("/mask_image: needs an init_image"));
  EXPECT_THAT(complaints_about(with("/mask/invert", true)), ElementsAre("/mask: needs a mask_image"));
  EXPECT_THAT(complaints_about(with("/extend/left", 64)), ElementsAre("/extend: needs an init_image"));
  EXPECT_THAT(complaints_about(with("/refiner/switch_at", 0.8)), ElementsAre("/refiner: needs models.refiner"));
  EXPECT_THAT(complaints_about(with("/precision/vae_tile", 15)),
              ElementsAre("/precision/vae_tile: is 15, must be 0 or at least 16"));
  EXPECT_THAT(complaints_about(with("/precision/vae_dtype", "int8")),
              ElementsAre("/precision/vae_dtype: is \"int8\", must be auto, float32 or bfloat16"));
  EXPECT_THAT(complaints_about(with("/output/upscale/factor", 2)), ElementsAre("/output/upscale/method: is required"));
  EXPECT_THAT(
      complaints_about(with("/controlnet", {{"conditioning_scale", 1}})),
      ElementsAre("/controlnet/model: is required where there is no type", "/controlnet/control_image: is required"));
}

TEST(DecodeGeneration, APromptMayBeEmptyWhereAPictureSaysWhatToMake) {
  json data = with("/init_image", "in.png");
  data["prompt"] = "";
  EXPECT_EQ(decoded(data).spec.prompt, "");
  EXPECT_THAT(complaints_about(with("/prompt", " ")), ElementsAre("/prompt: must not be empty"));
}

TEST(DecodeGeneration, NoModelIsNeededToEnlargeAPicture) {
  json data = {{"prompt", ""},
               {"init_image", "in.png"},
               {"hyperparameters", {{"strength", 0}}},
               {"output", {{"upscale", {{"method", "lanczos"}}}}}};
  const GenerationRequest request = decoded(data);
  EXPECT_TRUE(only_enlarges(request.spec));
  EXPECT_TRUE(only_enlarges(decoded(encode_generation(request.spec, request.job)).spec));
  data["hyperparameters"]["strength"] = 0.1;
  EXPECT_THAT(complaints_about(data), ElementsAre("/models/base: is required"));
}

TEST(DecodeGeneration, TheFormatFollowsTheNameOfTheFile) {
  EXPECT_EQ(decoded(with("/output/save_path", "a/b.JPG")).spec.output.format, ImageFormat::jpeg);
  EXPECT_EQ(decoded(with("/output/save_path", "a/")).spec.output.format, ImageFormat::png);
  json both = with("/output/save_path", "a.webp");
  both["output"]["format"] = "png";
  EXPECT_THAT(complaints_about(both), ElementsAre("/output/save_path: ends in .webp, but the format is png"));
  EXPECT_THAT(complaints_about(with("/output/save_path", "a.gif")), ElementsAre(HasSubstr("ends in .gif")));
}

TEST(DecodeGeneration, PicturesComeAsPathsOrDataUris) {
  EXPECT_EQ(decoded(with("/init_image", "in.png")).spec.init_image->path, "in.png");
  EXPECT_EQ(decoded(with("/init_image", "data:image/png;base64,AAEC")).spec.init_image->bytes,
            std::string("\0\1\2", 3));
  EXPECT_THAT(complaints_about(with("/init_image", "data:image/png,xx")), ElementsAre(HasSubstr("without ;base64,")));
  EXPECT_THAT(complaints_about(with("/init_image", "data:;base64,?")), ElementsAre(HasSubstr("base64")));
}

TEST(DecodeGeneration, APreprocessorThatNeedsANetworkIsAWarning) {
  const GenerationRequest request = decoded(
      with("/controlnet", {{"type", "depth"}, {"control_image", "d.png"}, {"preprocessor", {{"enabled", true}}}}));
  EXPECT_EQ(request.spec.controlnets.at(0).preprocess.name, "");
  EXPECT_THAT(request.warnings, ElementsAre(HasSubstr("\"depth\"")));
}

TEST(DecodeGeneration, LimitsAreConfigurable) {
  const Limits tiny{.min_side = 64, .max_side = 128};
  EXPECT_TRUE(decode_generation(with("/dimensions", {{"width", 64}, {"height", 128}}), tiny));
  EXPECT_FALSE(decode_generation(with("/dimensions", {{"width", 256}}), tiny));
}

// Every field set to something that is not its default.
GenerationSpec full_spec() {
  return {
      .model = "base",
      .vae = "vae",
      .refiner = RefinerUse{.model = "refiner", .switch_at = 0.8F},
      .loras = {{"a", 0.5F, 0.25F}, {"b", -1.0F, -1.0F}},
      .controlnets = {{.model = "c",
                       .image = {.path = "c.png"},
                       .scale = 0.7F,
                       .start = 0.1F,
                       .end = 0.9F,
                       .type = "canny",
                       .preprocess = {"canny", {100.0F, 200.0F}, 512}},
                      {.model = "d", .image = {.bytes = std::string("\x89PNG\0", 5)}}},
      .guess_mode = true,
      .embeddings = {{"<x>", "x"}},
      .prompt = "p",
      .negative_prompt = "n",
      .prompt_2 = "p2",
      .negative_prompt_2 = "n2",
      .prompt_syntax = PromptSyntax::webui,
      .clip_skip = 1,
      .width = 832,
      .height = 1216,
      .batch_size = 3,
      .batch_parallel = true,
      .seed = 18446744073709551615U,
      .micro_conditioning = {.original_size = Size{1, 2},
                             .crop_top_left = {3, 4},
                             .target_size = Size{5, 6},
                             .negative_original_size = Size{7, 8},
                             .negative_crop_top_left = Point{9, 10},
                             .negative_target_size = Size{11, 12},
                             .aesthetic_score = 7.0F,
                             .negative_aesthetic_score = 1.0F},
      .steps = 30,
      .guidance_scale = 5.5F,
      .guidance_rescale = 0.7F,
      .pag_scale = 3.0F,
      .scheduler = {"DDIMScheduler", {{"eta", "0.5"}, {"timestep_spacing", "\"trailing\""}}},
      .variation = Variation{5, 0.2F},
      .freeu = FreeU{1.0F, 1.1F, 1.2F, 1.3F},
      .tile_x = true,
      .tile_y = true,
      .init_image = ImageSource{.path = "i.png"},
      .mask_image = ImageSource{.path = "m.png"},
      .mask = {MaskPart::transparency, true, 4, MaskFill::noise, 32},
      .extend = {8, 16, 24, 32},
      .resize_mode = ResizeMode::crop,
      .strength = 0.3F,
      .hires = HiresUse{1.5F, 10, 0.5F, "lanczos"},
      .upscale = UpscaleUse{"esrgan", 4.0F},
      .precision = Precision::float32,
      .vae_precision = Precision::bfloat16,
      .vae_tile = 64,
      .output = {ImageFormat::webp, 80, "x.webp", false, 5, true},
  };
}

TEST(DecodeGeneration, APicturesOwnSizeCountsWhereNoneIsGiven) {
  json data = {{"prompt", "p"}, {"models", {{"base", "m"}}}};
  EXPECT_EQ(decoded(data).spec.width, 1024);
  data["init_image"] = "i.png";
  data["dimensions"] = {{"height", 512}};
  const GenerationSpec spec = decoded(data).spec;
  EXPECT_EQ(spec.width, 0);
  EXPECT_EQ(spec.height, 512);
  EXPECT_EQ(decoded(encode_generation(spec, {})).spec.width, 0);
}

TEST(DecodeGeneration, ARefinerThatIsOnlyNamedTakesOverAtFourFifths) {
  json data = {{"prompt", "p"}, {"models", {{"base", "m"}, {"refiner", "r"}}}};
  EXPECT_EQ(decoded(data).spec.refiner->switch_at, 0.8F);
  data["refiner"] = {{"strength", 0.3}};
  EXPECT_EQ(decoded(data).spec.refiner->switch_at, std::nullopt);
}

TEST(EncodeGeneration, EveryFieldSurvivesTheRoundTrip) {
  const JobOptions job{.priority = Priority::low, .timeout = 5, .tags = {"t"}};
  const json written = encode_generation(full_spec(), job);
  const GenerationRequest back = decoded(written);
  EXPECT_EQ(encode_generation(back.spec, back.job), written);
  EXPECT_EQ(back.spec.controlnets.at(1).image.bytes, full_spec().controlnets[1].image.bytes);
  EXPECT_EQ(back.spec.scheduler.options, full_spec().scheduler.options);
}

TEST(EncodeGeneration, NoFieldOfTheWireFormKeepsItsDefaultInTheRoundTripAbove) {
  GenerationSpec plain;
  plain.prompt = "q";
  const json full = encode_generation(full_spec(), {.priority = Priority::low, .timeout = 5, .tags = {"t"}}).flatten();
  const json defaults = encode_generation(plain, {}).flatten();
  for (const auto& [pointer, value] : defaults.items()) {
    if (pointer.ends_with("/enabled")) continue;
    EXPECT_FALSE(full.contains(pointer) && full[pointer] == value) << pointer << " is " << value;
  }
}

}  // namespace
}  // namespace darkroom
