// What /sdapi answers: the tolerances T24 to T33, by their numbers, and the callers' own state, T34.
#include "service/api/sdapi_answers.h"

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/text.h"
#include "catalog.h"
#include "service/api/sdapi_lists.h"
#include "service/api/sdapi_sessions.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A PNG that carries a parameters text.
std::string picture_with_text(const std::string& text) {
  const auto number = [](std::size_t value) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xFF);
    return bytes;
  };
  const std::string body = std::string("tEXtparameters\0", 15) + text;
  const auto sum = crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  std::string png = decode_base64(kPixel).value();
  return png.insert(33, number(body.size() - 4) + body + number(sum));
}

class SdapiAnswers : public testing::Test {
 protected:
  SdapiContext context() const { return {limits_, models_, options_, "sd_xl_base_1.0.safetensors"}; }

  SdapiRequest request(const json& body) const {
    auto decoded = decode_sdapi(SdapiKind::txt2img, body, context());
    EXPECT_TRUE(decoded) << decoded.error().error.message;
    return *decoded;
  }

  Limits limits_;
  ModelCatalog models_ = test_catalog();
  SdapiOptions options_;
};

const std::string kText =
    "a cat\nNegative prompt: blurry\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 64x32";

TEST_F(SdapiAnswers, T24ImagesAreBareBase64WithoutAGrid) {
  const SdapiRequest asked = request({{"prompt", "a cat"}, {"batch_size", 2}});
  const json answer =
      sdapi_answer(asked, {{picture_with_text(kText), 5}, {picture_with_text(kText), 6}}, models_, {}, "");
  ASSERT_EQ(answer["images"].size(), 2U);
  EXPECT_EQ(decode_base64(answer["images"][0].get<std::string>()).value(), picture_with_text(kText));
  EXPECT_EQ(json::parse(answer["info"].get<std::string>())["index_of_first_image"], 0);
  EXPECT_THAT(sdapi_answer(request({{"prompt", "a"}, {"send_images", false}}), {{"x", 5}}, models_, {}, "")["images"],
              IsEmpty());
}

TEST_F(SdapiAnswers, T25InfoIsATextOfJson) {
  const SdapiRequest asked = request({{"prompt", "a cat <lora:detail:1>"},
                                      {"negative_prompt", "blurry"},
                                      {"seed", 5},
                                      {"batch_size", 2},
                                      {"steps", 20},
                                      {"width", 832},
                                      {"height", 1216},
                                      {"cfg_scale", 5.5},
                                      {"sampler_name", "DPM++ 2M Karras"}});
  const json answer =
      sdapi_answer(asked, {{picture_with_text(kText), 5}, {picture_with_text("b"), 6}}, models_, {}, "20260101");
  ASSERT_TRUE(answer["info"].is_string());
  const json info = json::parse(answer["info"].get<std::string>());
  const std::pair<const char*, json> kFields[] = {{"prompt", "a cat <lora:detail:1>"},
                                                  {"all_prompts", {"a cat <lora:detail:1>", "a cat <lora:detail:1>"}},
                                                  {"negative_prompt", "blurry"},
                                                  {"all_negative_prompts", {"blurry", "blurry"}},
                                                  {"seed", 5},
                                                  {"all_seeds", {5, 6}},
                                                  {"subseed", 5},
                                                  {"all_subseeds", {5, 6}},
                                                  {"subseed_strength", 0.0},
                                                  {"width", 832},
                                                  {"height", 1216},
                                                  {"sampler_name", "DPM++ 2M"},
                                                  {"scheduler", "Karras"},
                                                  {"cfg_scale", 5.5},
                                                  {"steps", 20},
                                                  {"batch_size", 2},
                                                  {"sd_model_name", "sd_xl_base_1.0"},
                                                  {"sd_model_hash", "31e35c80fc"},
                                                  {"clip_skip", 1},
                                                  {"denoising_strength", nullptr},
                                                  {"infotexts", {kText, "b"}},
                                                  {"job_timestamp", "20260101"}};
  for (const auto& [key, value] : kFields) EXPECT_EQ(info[key], value) << key;
}

TEST_F(SdapiAnswers, T26ParametersRepeatTheRequestWithoutPicturesAndSecrets) {
  json body = {{"prompt", "a cat"}, {"auth", "user:secret"}, {"steps", 20}, {"unknown", 1}};
  body["alwayson_scripts"]["controlnet"]["args"] = {{{"image", kPixel}, {"model", "canny-xl"}}};
  const json answer = sdapi_answer(request(body), {}, models_, {"w"}, "");
  EXPECT_EQ(answer["parameters"]["steps"], 20);
  EXPECT_EQ(answer["parameters"]["unknown"], 1);
  EXPECT_EQ(answer["parameters"]["alwayson_scripts"]["controlnet"]["args"][0], (json{{"model", "canny-xl"}}));
  EXPECT_THAT(answer.dump(), Not(HasSubstr("secret")));
  EXPECT_THAT(answer["warnings"], ElementsAre("w"));
}

TEST_F(SdapiAnswers, T28OptionsHaveWhatClientsLookForAndNotWhatTellsForksApart) {
  const json options = sdapi_options(context());
  const std::pair<const char*, json> kFields[] = {
      {"sd_model_checkpoint", "sd_xl_base_1.0.safetensors [31e35c80fc]"},
      {"sd_checkpoint_hash", "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b"},
      {"samples_format", "png"},
      {"sd_vae", "Automatic"},
      {"CLIP_stop_at_last_layers", 1},
      {"face_restoration_model", "None"},
      {"img2img_color_correction", false},
      {"inpainting_mask_weight", 1.0}};
  for (const auto& [key, value] : kFields) EXPECT_EQ(options[key], value) << key;
  for (const char* key : {"forge_preset", "use_scale_latent_for_hires_fix"}) EXPECT_FALSE(options.contains(key)) << key;
  for (const auto& [key, value] : options.items()) EXPECT_THAT(key, Not(HasSubstr("_sep")));
}

TEST_F(SdapiAnswers, T29TheWholeOptionsObjectMayComeBack) {
  json options = sdapi_options(context());
  EXPECT_EQ(changed_sdapi_options(options, context())->clip_stop_at_last_layers, 1);
  options["sd_model_checkpoint"] = "Pony.safetensors";
  options["CLIP_stop_at_last_layers"] = 2.0;
  options["sd_vae"] = "fixed";
  options["something_new"] = {1, 2};
  const auto changed = changed_sdapi_options(options, context());
  ASSERT_TRUE(changed) << changed.error().error.message;
  EXPECT_EQ(changed->checkpoint, "anime/Pony.safetensors");
  EXPECT_EQ(changed->vae, "fixed.safetensors");
  EXPECT_EQ(changed->clip_stop_at_last_layers, 2);
  const auto refused = changed_sdapi_options({{"sd_model_checkpoint", "nothing"}}, context());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error.code, ErrorCode::not_found);
  EXPECT_EQ(changed_sdapi_options(json::object(), context()), options_);
}

TEST_F(SdapiAnswers, T30ErrorsHaveWhatClientsMatch) {
  EXPECT_EQ(sdapi_error({{ErrorCode::not_found, "Not Found"}, {}})["detail"], "Not Found");
  const auto sampler = decode_sdapi(SdapiKind::txt2img, {{"prompt", "a"}, {"sampler_name", "x"}}, context());
  EXPECT_EQ(sampler.error().error.code, ErrorCode::not_found);
  EXPECT_EQ(sdapi_error(sampler.error())["detail"], "Sampler not found");
  const auto steps = decode_sdapi(SdapiKind::txt2img, {{"prompt", "a"}, {"steps", 0}}, context());
  const json invalid = sdapi_error(steps.error());
  EXPECT_EQ(invalid["error"], "invalid_argument");
  EXPECT_EQ(invalid["message"], "/steps: is 0, must be between 1 and 150");
  EXPECT_EQ(invalid["errors"][0]["pointer"], "/steps");
  EXPECT_TRUE(invalid.contains("body"));
}

TEST_F(SdapiAnswers, T31ProgressWhileIdleAndWhileAtWork) {
  const json idle = sdapi_progress_answer(std::nullopt, PreviewUse::show);
  EXPECT_EQ(idle["progress"], 0.0);
  EXPECT_EQ(idle["state"]["job"], "");
  EXPECT_EQ(idle["state"]["job_count"], 0);
  EXPECT_EQ(idle["current_image"], nullptr);

  const SdapiProgress now{.job = "j1",
                          .job_count = 4,
                          .job_no = 1,
                          .step = 5,
                          .steps = 20,
                          .seconds_left = 3.5,
                          .stage = "denoise",
                          .interrupted = true,
                          .preview = "jpeg"};
  const json busy = sdapi_progress_answer(now, PreviewUse::show);
  EXPECT_EQ(busy["progress"], 0.3125);
  EXPECT_EQ(busy["eta_relative"], 3.5);
  EXPECT_EQ(busy["state"]["job"], "j1");
  EXPECT_EQ(busy["state"]["job_no"], 1);
  EXPECT_EQ(busy["state"]["sampling_step"], 5);
  EXPECT_EQ(busy["state"]["sampling_steps"], 20);
  EXPECT_EQ(busy["state"]["interrupted"], true);
  EXPECT_EQ(busy["state"]["skipped"], false);
  EXPECT_EQ(busy["textinfo"], "denoise");
  EXPECT_EQ(busy["current_image"], encode_base64("jpeg"));
  EXPECT_EQ(sdapi_progress_answer(now, PreviewUse::skip)["current_image"], nullptr);
}

TEST_F(SdapiAnswers, T32SamplerOptionsAreTexts) {
  const json samplers = sdapi_samplers();
  ASSERT_FALSE(samplers.empty());
  for (const json& sampler : samplers) {
    EXPECT_TRUE(sampler["name"].is_string());
    EXPECT_TRUE(sampler["aliases"].is_array());
    for (const auto& [key, value] : sampler["options"].items()) EXPECT_TRUE(value.is_string()) << key;
    // What is listed is taken.
    EXPECT_TRUE(decode_sdapi(SdapiKind::txt2img, {{"prompt", "a"}, {"sampler_name", sampler["name"]}}, context()));
  }
  for (const json& schedule : sdapi_schedulers()) {
    const json body = {{"prompt", "a"}, {"sampler_name", "DPM++ 2M"}, {"scheduler", schedule["label"]}};
    EXPECT_TRUE(decode_sdapi(SdapiKind::txt2img, body, context())) << schedule;
  }
}

TEST_F(SdapiAnswers, T33TheFirstUpscalerIsNone) {
  const json upscalers = sdapi_upscalers(models_);
  EXPECT_EQ(upscalers[0]["name"], "None");
  EXPECT_EQ(upscalers[1]["name"], "Lanczos");
  EXPECT_EQ(upscalers[2]["name"], "4x-UltraSharp");
}

TEST_F(SdapiAnswers, ListsNameTheModels) {
  const json models = sdapi_models(models_);
  ASSERT_EQ(models.size(), 4U);
  EXPECT_EQ(models[0]["title"], "sd_xl_base_1.0.safetensors [31e35c80fc]");
  EXPECT_EQ(models[0]["model_name"], "sd_xl_base_1.0");
  EXPECT_EQ(models[0]["hash"], "31e35c80fc");
  EXPECT_EQ(models[1]["title"], "anime/Pony.safetensors");
  EXPECT_EQ(models[1]["hash"], nullptr);
  EXPECT_EQ(sdapi_vaes(models_)[0]["model_name"], "fixed.safetensors");
  EXPECT_EQ(sdapi_loras(models_)[0]["name"], "Watercolor");
  EXPECT_TRUE(sdapi_embeddings(models_)["loaded"].contains("badhands"));
  EXPECT_EQ(sdapi_latent_upscale_modes()[0]["name"], "Latent");
  EXPECT_THAT(sdapi_scripts()["txt2img"], Contains("controlnet"));
  EXPECT_EQ(sdapi_script_info()[0]["is_alwayson"], true);
  EXPECT_EQ(sdapi_cmd_flags()["api"], true);
  EXPECT_EQ(sdapi_memory({.total = 10, .free = 4})["ram"]["used"], 6);
}

TEST_F(SdapiAnswers, ListsOfControlNet) {
  EXPECT_THAT(controlnet_models(models_)["model_list"],
              ElementsAre("canny-xl.safetensors", "union-promax.safetensors"));
  EXPECT_THAT(controlnet_modules()["module_list"], Contains("canny"));
  const json types = controlnet_types(models_)["control_types"];
  EXPECT_EQ(types["Canny"]["default_option"], "canny");
  EXPECT_THAT(types["Canny"]["model_list"], ElementsAre("None", "canny-xl.safetensors", "union-promax.safetensors"));
  EXPECT_THAT(types["Tile"]["model_list"], ElementsAre("None", "union-promax.safetensors"));
  EXPECT_THAT(types["Lineart"]["module_list"], ElementsAre("none", "lineart_standard", "invert"));
  EXPECT_EQ(controlnet_settings(limits_)["control_net_unit_count"], 8);
}

TEST_F(SdapiAnswers, PngInfoReadsWhatAPictureCarries) {
  const auto info = sdapi_png_info({{"image", encode_base64(picture_with_text(kText))}}, limits_);
  ASSERT_TRUE(info) << info.error().error.message;
  EXPECT_EQ((*info)["info"], kText);
  EXPECT_EQ((*info)["items"]["parameters"], kText);
  EXPECT_EQ((*info)["parameters"]["Prompt"], "a cat");
  EXPECT_EQ((*info)["parameters"]["Negative prompt"], "blurry");
  EXPECT_EQ((*info)["parameters"]["Size-1"], "64");
  EXPECT_EQ((*info)["parameters"]["Size-2"], "32");
  EXPECT_EQ((*sdapi_png_info({{"image", kPixel}}, limits_))["info"], "");
  EXPECT_EQ((*sdapi_png_info({{"image", ""}}, limits_))["info"], "");
  EXPECT_THAT(sdapi_png_info({{"image", "AAAA"}}, limits_).error().error.message, HasSubstr("/image: not a PNG"));
}

TEST_F(SdapiAnswers, ExtrasAnswer) {
  EXPECT_EQ(sdapi_extras_answer(SdapiExtrasKind::single, {"abc"}, {})["image"], encode_base64("abc"));
  EXPECT_EQ(sdapi_extras_answer(SdapiExtrasKind::batch, {"a", "b"}, {})["images"].size(), 2U);
}

TEST(SdapiSessions, T34OptionsBelongToTheCaller) {
  SdapiSessions sessions;
  sessions.set_options("alice", {.checkpoint = "a.safetensors"});
  EXPECT_EQ(sessions.options("alice").checkpoint, "a.safetensors");
  EXPECT_EQ(sessions.options("bob"), SdapiOptions{});
}

SdapiActivity activity(std::initializer_list<const char*> jobs) {
  SdapiActivity made;
  for (const char* job : jobs) made.parts.push_back({job, 1});
  return made;
}

TEST(SdapiSessions, T34ProgressAndInterruptBelongToTheCaller) {
  SdapiSessions sessions;
  const std::uint64_t first = sessions.begin("alice", activity({"a1", "a2"}));
  const std::uint64_t second = sessions.begin("alice", activity({"a3"}));
  sessions.begin("bob", activity({"b1"}));
  EXPECT_EQ(sessions.current("alice")->parts.size(), 2U);
  sessions.set_preview("alice", first, "jpeg");
  EXPECT_EQ(sessions.current("alice")->preview, "jpeg");
  EXPECT_THAT(sessions.interrupt("alice"), ElementsAre("a1", "a2"));
  EXPECT_TRUE(sessions.current("alice")->interrupted);
  EXPECT_FALSE(sessions.current("bob")->interrupted);
  EXPECT_TRUE(sessions.finish("alice", first)->interrupted);
  EXPECT_EQ(sessions.current("alice")->parts.at(0).job, "a3");
  EXPECT_FALSE(sessions.finish("alice", second)->interrupted);
  EXPECT_FALSE(sessions.finish("alice", second));
  EXPECT_FALSE(sessions.current("alice"));
  EXPECT_THAT(sessions.interrupt("alice"), IsEmpty());
  EXPECT_THAT(sessions.interrupt("nobody"), IsEmpty());
}

TEST(SdapiSessions, ForgetWhoWasNotHeardOfForLongestButNobodyWhoWaits) {
  SdapiSessions sessions(2);
  sessions.begin("waits", activity({"w"}));
  sessions.set_options("old", {.checkpoint = "o"});
  sessions.set_options("new", {.checkpoint = "n"});
  EXPECT_TRUE(sessions.current("waits"));
  EXPECT_EQ(sessions.options("old").checkpoint, "");
  EXPECT_EQ(sessions.options("new").checkpoint, "n");
}

TEST(SdapiSessions, MayBeUsedFromManyThreads) {
  SdapiSessions sessions(8);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&sessions, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string caller = "c" + std::to_string((t + i) % 16);
        const std::uint64_t request = sessions.begin(caller, activity({"j"}));
        sessions.set_options(caller, {.checkpoint = caller});
        sessions.interrupt(caller);
        sessions.finish(caller, request);
      }
    });
  }
  threads.clear();
  for (int i = 0; i < 16; ++i) EXPECT_FALSE(sessions.current("c" + std::to_string(i)));
}

}  // namespace
}  // namespace darkroom
