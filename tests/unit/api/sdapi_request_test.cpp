// The tolerances of /sdapi's bodies, by their numbers, and what the fields mean.
#include "service/api/sdapi_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "catalog.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Sdapi : public testing::Test {
 protected:
  tl::expected<SdapiRequest, Refusal> ask(SdapiKind kind, const json& body) const {
    return decode_sdapi(kind, body, {limits_, models_, options_, "sd_xl_base_1.0.safetensors"});
  }

  SdapiRequest decoded(const json& body) const {
    const SdapiKind kind = body.contains("init_images") ? SdapiKind::img2img : SdapiKind::txt2img;
    auto request = ask(kind, body);
    EXPECT_TRUE(request) << body << request.error().error.message;
    if (request) return *request;
    SdapiRequest nothing;
    nothing.jobs.emplace_back();
    return nothing;
  }

  GenerationSpec spec_of(const json& body) const { return decoded(body).jobs.front().spec; }
  std::vector<std::string> warnings_of(const json& body) const { return decoded(body).jobs.front().warnings; }

  // Of txt2img with one field more.
  static json with(const std::string& pointer, const json& value) {
    json body = {{"prompt", "a cat"}};
    body[json::json_pointer(pointer)] = value;
    return body;
  }

  static json picture_with(const std::string& key, const json& value) {
    return {{"prompt", "a cat"}, {"init_images", {kPixel}}, {key, value}};
  }

  std::string refused(const json& body) const {
    const SdapiKind kind = body.contains("init_images") ? SdapiKind::img2img : SdapiKind::txt2img;
    const auto request = ask(kind, body);
    return request ? "accepted" : request.error().error.message;
  }

  Limits limits_;
  ModelCatalog models_ = test_catalog();
  SdapiOptions options_;
};

TEST_F(Sdapi, DefaultsAreWebuisButForTheSize) {
  const SdapiRequest request = decoded({{"prompt", "a cat"}});
  ASSERT_EQ(request.jobs.size(), 1U);
  const GenerationSpec& spec = request.jobs[0].spec;
  EXPECT_EQ(spec.steps, 50);
  EXPECT_EQ(spec.guidance_scale, 7.0F);
  EXPECT_EQ(spec.width, 1024);
  EXPECT_EQ(spec.height, 1024);
  EXPECT_EQ(spec.batch_size, 1);
  EXPECT_EQ(spec.scheduler.name, "EulerDiscreteScheduler");
  EXPECT_EQ(spec.negative_prompt, "");
  EXPECT_EQ(spec.prompt_syntax, PromptSyntax::webui);
  EXPECT_EQ(spec.model, "sd_xl_base_1.0.safetensors");
  EXPECT_EQ(spec.vae, "");
  EXPECT_EQ(spec.clip_skip, 0);
  EXPECT_EQ(spec.output.format, ImageFormat::png);
  EXPECT_FALSE(spec.hires);
  EXPECT_FALSE(spec.variation);
  EXPECT_TRUE(request.send_images);
  EXPECT_THAT(request.jobs[0].warnings, IsEmpty());
}

TEST_F(Sdapi, TakesWhatSillyTavernSends) {
  const GenerationSpec spec = spec_of(json::parse(R"({"prompt": "a cat", "negative_prompt": "blurry",
      "sampler_name": "DPM++ 2M", "scheduler": "karras", "steps": 20, "cfg_scale": 7, "width": 832, "height": 1216,
      "restore_faces": false, "enable_hr": true, "hr_upscaler": "4x-UltraSharp", "hr_scale": 1.5,
      "denoising_strength": 0.4, "hr_second_pass_steps": 10, "seed": 42,
      "override_settings": {"CLIP_stop_at_last_layers": 2, "sd_vae": "fixed.safetensors", "forge_additional_modules": []},
      "override_settings_restore_afterwards": true, "clip_skip": 2, "save_images": true, "send_images": true,
      "do_not_save_grid": false, "do_not_save_samples": false, "url": "http://x", "auth": "user:secret"})"));
  EXPECT_EQ(spec.seed, 42U);
  EXPECT_EQ(spec.vae, "fixed.safetensors");
  EXPECT_EQ(spec.scheduler.name, "DPMSolverMultistepScheduler");
  EXPECT_THAT(spec.scheduler.options, Contains(SchedulerOption{"use_karras_sigmas", "true"}));
  ASSERT_TRUE(spec.hires);
  EXPECT_EQ(spec.hires->factor, 1.5F);
  EXPECT_EQ(spec.hires->steps, 10);
  EXPECT_EQ(spec.hires->strength, 0.4F);
  EXPECT_EQ(spec.hires->upscaler, "4x-UltraSharp.pth");
}

TEST_F(Sdapi, T10UnknownFieldsAreIgnoredAndSecretsAreNotEchoed) {
  const json body = json::parse(R"({"prompt": "a cat", "image_similarity": 3, "sampler": "x", "auth": "user:secret",
      "url": "http://internal", "alwayson_scripts": {"controlnet": {"args": [{"enabled": false, "image": "AAAA"}]}},
      "init_image": "data:image/png;base64,AAAA"})");
  const json echo = decoded(body).echo;
  EXPECT_EQ(echo["image_similarity"], 3);
  EXPECT_THAT(echo.dump(), Not(HasSubstr("secret")));
  EXPECT_THAT(echo.dump(), Not(HasSubstr("internal")));
  EXPECT_THAT(echo.dump(), Not(HasSubstr("AAAA")));
}

TEST_F(Sdapi, T11NullIsAbsent) {
  json body = {{"prompt", "a cat"}};
  for (const char* key : {"denoising_strength", "steps", "seed", "sampler_name", "sampler_index", "scheduler", "width",
                          "styles", "override_settings", "alwayson_scripts", "refiner_checkpoint", "hr_upscaler",
                          "script_name", "negative_prompt", "cfg_scale", "batch_size", "eta", "s_churn", "subseed"}) {
    body[key] = nullptr;
  }
  EXPECT_EQ(spec_of(body).steps, 50);
}

TEST_F(Sdapi, T12WholeNumbersComeAsFractionsAndTexts) {
  EXPECT_EQ(spec_of(with("/steps", 12.5)).steps, 12);
  EXPECT_EQ(spec_of(with("/width", 512.0)).width, 512);
  EXPECT_EQ(spec_of(with("/cfg_scale", "7.5")).guidance_scale, 7.5F);
  EXPECT_EQ(spec_of(with("/override_settings/CLIP_stop_at_last_layers", 1.0)).clip_skip, 0);
}

TEST_F(Sdapi, T13SeedsInEveryForm) {
  EXPECT_EQ(spec_of(with("/seed", "123")).seed, 123U);
  EXPECT_EQ(spec_of(with("/seed", 9007199254740991)).seed, 9007199254740991U);
  EXPECT_EQ(spec_of(with("/seed", 0)).seed, 0U);
  std::set<std::uint64_t> seeds;
  for (const json& value : {json(""), json(-1), json(nullptr), json("-1")}) {
    seeds.insert(spec_of(with("/seed", value)).seed);
  }
  EXPECT_EQ(seeds.size(), 4U);
}

TEST_F(Sdapi, T14TheSamplerComesInManyWays) {
  struct Case {
    json fields;
    const char* scheduler;
    const char* sampler_name;
    const char* schedule;
    std::size_t warnings;
  };
  const char* const kMulti = "DPMSolverMultistepScheduler";
  const Case kCases[] = {
      {{{"sampler_name", "Euler a"}}, "EulerAncestralDiscreteScheduler", "Euler a", "Automatic", 0},
      {{{"sampler_index", "DPM++ 2M Karras"}}, kMulti, "DPM++ 2M", "Karras", 0},
      {{{"sampler_name", "Euler"}, {"sampler_index", "DDIM"}}, "EulerDiscreteScheduler", "Euler", "Automatic", 0},
      {{{"sampler_name", "DPM++ 2M"}, {"scheduler", "Karras"}}, kMulti, "DPM++ 2M", "Karras", 0},
      {{{"sampler_name", "DPM++ 2M"}, {"scheduler", "karras"}}, kMulti, "DPM++ 2M", "Karras", 0},
      {{{"sampler_name", "dpm++ 2m"}, {"scheduler", "SGM Uniform"}}, kMulti, "DPM++ 2M", "SGM Uniform", 0},
      {{{"sampler_name", "DPM++ 2M"}, {"scheduler", "sgm_uniform"}}, kMulti, "DPM++ 2M", "SGM Uniform", 0},
      {{{"sampler_name", "DPM++ 2M"}, {"scheduler", "Automatic"}}, kMulti, "DPM++ 2M", "Automatic", 0},
      {{{"sampler_name", "DPM++ 2M Karras"}, {"scheduler", "Exponential"}}, kMulti, "DPM++ 2M", "Karras", 0},
      {{{"sampler_name", "DDIM"}, {"scheduler", "Karras"}}, "DDIMScheduler", "DDIM", "Automatic", 1},
      {{{"sampler_name", "Euler"}, {"scheduler", "KL Optimal"}}, "EulerDiscreteScheduler", "Euler", "Automatic", 1}};
  for (const auto& [fields, scheduler, name, schedule, warnings] : kCases) {
    json body = fields;
    body["prompt"] = "a cat";
    const SdapiRequest request = decoded(body);
    EXPECT_EQ(request.jobs[0].spec.scheduler.name, scheduler) << fields;
    EXPECT_EQ(request.sampler_name, name) << fields;
    EXPECT_EQ(request.schedule, schedule) << fields;
    EXPECT_EQ(request.jobs[0].warnings.size(), warnings) << fields;
  }
  EXPECT_THAT(refused(with("/scheduler", "karas")), HasSubstr("near: Karras"));
  EXPECT_EQ(refused(with("/sampler_name", "Magic")), "Sampler not found");
  EXPECT_EQ(ask(SdapiKind::txt2img, with("/sampler_name", "Magic")).error().error.code, ErrorCode::not_found);
}

TEST_F(Sdapi, T15AnEmptyStyleIsNone) {
  EXPECT_THAT(warnings_of(with("/styles", {""})), IsEmpty());
  EXPECT_THAT(warnings_of(with("/styles", {"noir"})), ElementsAre(HasSubstr("\"noir\"")));
}

TEST_F(Sdapi, T16PicturesComeWithOrWithoutAPrefix) {
  const std::string prefixed = std::string("data:image/png;base64,") + kPixel;
  for (const json& value : {json({kPixel}), json({prefixed}), json(kPixel)}) {
    EXPECT_TRUE(spec_of({{"prompt", ""}, {"init_images", value}}).init_image) << value;
  }
  EXPECT_THAT(refused({{"init_images", {"http://example.org/a.png"}}}), HasSubstr("/init_images: is a URL"));
  EXPECT_THAT(refused({{"init_images", json::array()}}), HasSubstr("/init_images: is required"));
  EXPECT_THAT(refused({{"init_images", {kPixel, kPixel}}}), HasSubstr("has 2 pictures"));
  EXPECT_THAT(refused({{"init_images", {7}}}), HasSubstr("expected a picture in base64"));
}

TEST_F(Sdapi, T17ScriptsThatAreOffAreIgnoredAndOthersNamed) {
  const json kIgnored[] = {json::parse(R"({"ControlNet": {"args": []}})"),
                           json::parse(R"({"ADetailer": {"args": []}})"),
                           json::parse(R"({"ADetailer": {"args": [false, {"ad_model": "face"}]}})"),
                           json::parse(R"({"adetailer": {"args": [{"enabled": false}]}})"),
                           json::parse(R"({"controlnet": {"args": [{"enabled": false, "model": "no"}]}})"),
                           json::parse(R"({"controlnet": {"args": [false]}})"),
                           json::parse(R"({"x": {}})"),
                           json::array()};
  for (const json& scripts : kIgnored) {
    EXPECT_THAT(spec_of(with("/alwayson_scripts", scripts)).controlnets, IsEmpty()) << scripts;
  }
  const std::string refusal =
      refused(with("/alwayson_scripts", json::parse(R"({"ADetailer": {"args": [{"ad_model": "face_yolov8n.pt"}]}})")));
  EXPECT_THAT(refusal, HasSubstr("/alwayson_scripts/ADetailer: the script \"ADetailer\" is not there"));
  EXPECT_THAT(refused(with("/script_name", "X/Y/Z plot")), HasSubstr("/script_name: is \"X/Y/Z plot\""));
  EXPECT_EQ(refused(with("/script_name", "None")), "accepted");
}

json unit(const json& fields) {
  json all = {{"image", kPixel}, {"model", "canny-xl"}};
  all.update(fields);
  return {{"prompt", "a cat"}, {"alwayson_scripts", {{"CONTROLNET", {{"args", {all}}}}}}};
}

TEST_F(Sdapi, T18AControlNetUnitInItsManyForms) {
  struct Case {
    json fields;
    std::function<bool(const GenerationSpec&)> holds;
  };
  const auto net = [](const GenerationSpec& spec) -> const ControlNetUse& { return spec.controlnets.at(0); };
  const Case kCases[] = {
      {json::object(), [&](const auto& s) { return net(s).model == "canny-xl.safetensors" && net(s).scale == 1.0F; }},
      {{{"model", "canny-xl [abcdef12]"}}, [&](const auto& s) { return net(s).model == "canny-xl.safetensors"; }},
      {{{"image", nullptr}, {"input_image", kPixel}}, [&](const auto& s) { return !net(s).image.bytes.empty(); }},
      {{{"image", {{"image", kPixel}, {"mask", nullptr}}}}, [&](const auto& s) { return !net(s).image.bytes.empty(); }},
      {{{"module", "canny"}},
       [&](const auto& s) {
         return net(s).preprocess.name == "canny" && net(s).preprocess.arguments == std::vector{100.0F, 200.0F} &&
                net(s).preprocess.resolution == 512;
       }},
      {{{"module", "Canny"}, {"threshold_a", 50}, {"threshold_b", -1}, {"pixel_perfect", true}},
       [&](const auto& s) {
         return net(s).preprocess.arguments == std::vector{50.0F, 200.0F} && net(s).preprocess.resolution == 0;
       }},
      {{{"module", "None"}}, [&](const auto& s) { return net(s).preprocess.name.empty(); }},
      {{{"module", "invert (from white bg & black line)"}},
       [&](const auto& s) { return net(s).preprocess.name == "invert"; }},
      {{{"weight", 0.5}, {"guidance_start", 0.1}, {"guidance_end", 0.9}},
       [&](const auto& s) { return net(s).scale == 0.5F && net(s).start == 0.1F && net(s).end == 0.9F; }},
      {{{"guidance", 0.7}}, [&](const auto& s) { return net(s).end == 0.7F; }},
      {{{"resize_mode", "Crop and Resize"}, {"control_mode", "Balanced"}, {"lowvram", true}},
       [&](const auto& s) { return !s.guess_mode; }},
      {{{"resize_mode", 1}, {"control_mode", 2}}, [&](const auto& s) { return s.guess_mode; }},
      {{{"control_mode", "ControlNet is more important"}}, [&](const auto& s) { return s.guess_mode; }},
      {{{"model", "union-promax"}, {"union_control_type", "Depth"}},
       [&](const auto& s) { return net(s).type == "depth"; }},
      {{{"model", "None"}, {"image", nullptr}}, [&](const auto& s) { return s.controlnets.empty(); }},
      {{{"enabled", false}, {"model", "nothing"}}, [&](const auto& s) { return s.controlnets.empty(); }}};
  for (const auto& [fields, holds] : kCases) EXPECT_TRUE(holds(spec_of(unit(fields)))) << fields;
}

TEST_F(Sdapi, T18AControlNetUnitIsRefusedByName) {
  const std::pair<json, const char*> kCases[] = {
      {{{"model", "cany-xl"}}, "/alwayson_scripts/CONTROLNET/args/0/model: there is no controlnet \"cany-xl\""},
      {{{"model", "None"}}, "/args/0/model: is required where there is a picture"},
      {{{"module", "openpose_full"}}, "/args/0/module: is \"openpose_full\"; built in are none, canny"},
      {{{"image", nullptr}}, "/args/0/image: is required"},
      {{{"weight", 3}}, "/args/0/weight: is 3, must be between 0 and 2"},
      {{{"control_mode", "Chaos"}}, "/args/0/control_mode: is \"chaos\", must be Balanced"},
      {{{"guidance_start", 0.9}, {"guidance_end", 0.1}}, "/args/0/guidance_start: is 0.9, after the end 0.1"}};
  for (const auto& [fields, refusal] : kCases) EXPECT_THAT(refused(unit(fields)), HasSubstr(refusal)) << fields;
}

TEST_F(Sdapi, T18InImg2ImgAUnitMayUseThePicture) {
  json body = unit({{"image", nullptr}});
  body["init_images"] = {kPixel};
  EXPECT_EQ(spec_of(body).controlnets.at(0).image.bytes, spec_of(body).init_image->bytes);
}

TEST_F(Sdapi, T19LorasInThePrompt) {
  const GenerationSpec spec = spec_of(with("/prompt", "a cat <lora:Watercolor.safetensors:0.8><lora:detail:1>"));
  EXPECT_EQ(spec.prompt, "a cat ");
  ASSERT_EQ(spec.loras.size(), 2U);
  EXPECT_EQ(spec.loras[0].model, "styles/Watercolor.safetensors");
  EXPECT_EQ(spec.loras[0].unet_weight, 0.8F);
  EXPECT_THAT(refused(with("/prompt", "a <lora:missing:1>")), HasSubstr("/prompt: has <lora:…>: there is no lora"));
}

TEST_F(Sdapi, T20OverrideSettings) {
  EXPECT_EQ(spec_of(with("/override_settings/sd_model_checkpoint", "pony")).model, "anime/Pony.safetensors");
  EXPECT_EQ(spec_of(with("/override_settings/sd_vae", "fixed")).vae, "fixed.safetensors");
  EXPECT_EQ(spec_of(with("/override_settings/sd_vae", "Automatic")).vae, "");
  EXPECT_EQ(spec_of(with("/override_settings/CLIP_stop_at_last_layers", 4)).clip_skip, 2);
  EXPECT_EQ(spec_of(with("/override_settings/sd_model_refiner", "refiner")).refiner->model, "refiner.safetensors");
  EXPECT_EQ(spec_of(with("/override_settings/forge_additional_modules", {"fixed.safetensors"})).vae,
            "fixed.safetensors");
  EXPECT_THAT(warnings_of(with("/override_settings/eta_noise_seed_delta", 31337)), ElementsAre(HasSubstr("noise")));
  EXPECT_THAT(warnings_of(with("/override_settings/img2img_color_correction", true)), Not(IsEmpty()));
  EXPECT_THAT(warnings_of(with("/override_settings/some_other_key", 3)), IsEmpty());
  EXPECT_THAT(refused(with("/override_settings/sd_model_checkpoint", "pny")),
              HasSubstr("/override_settings/sd_model_checkpoint: there is no checkpoint \"pny\""));
}

TEST_F(Sdapi, T21TheRefiner) {
  json body = with("/refiner_checkpoint", "refiner.safetensors");
  EXPECT_EQ(spec_of(body).refiner->switch_at, 0.8F);
  body["refiner_switch_at"] = 0.6;
  EXPECT_EQ(spec_of(body).refiner->switch_at, 0.6F);
  body["refiner_switch_at"] = 1.0;
  EXPECT_FALSE(spec_of(body).refiner);
  EXPECT_FALSE(spec_of(with("/refiner_checkpoint", "None")).refiner);
}

TEST_F(Sdapi, T23TheCallersCheckpointIsUsed) {
  options_.checkpoint = "anime/Pony.safetensors";
  EXPECT_EQ(spec_of({{"prompt", "a"}}).model, "anime/Pony.safetensors");
  EXPECT_EQ(spec_of(with("/override_settings/sd_model_checkpoint", "sd_xl_base_1.0.safetensors [31e35c80fc]")).model,
            "sd_xl_base_1.0.safetensors");
}

TEST_F(Sdapi, ManyPicturesBecomeSeveralJobsWithSeedsThatGoOn) {
  json body = {{"prompt", "a"}, {"seed", 100}, {"batch_size", 4}, {"n_iter", 3}};
  body["subseed_strength"] = 0.3;
  body["subseed"] = 7;
  const SdapiRequest request = decoded(body);
  ASSERT_EQ(request.jobs.size(), 2U);
  EXPECT_EQ(request.jobs[0].spec.batch_size, 9);
  EXPECT_EQ(request.jobs[0].spec.seed, 100U);
  EXPECT_EQ(request.jobs[1].spec.batch_size, 3);
  EXPECT_EQ(request.jobs[1].spec.seed, 109U);
  EXPECT_EQ(request.jobs[1].spec.variation->seed, 16U);
  EXPECT_THAT(refused({{"prompt", "a"}, {"batch_size", 50}, {"n_iter", 3}}), HasSubstr("150 pictures, at most 100"));
}

TEST_F(Sdapi, HiresFields) {
  const json base = {{"prompt", "a"}, {"enable_hr", true}};
  const auto hires = [&](const json& fields) {
    json body = base;
    body.update(fields);
    return *spec_of(body).hires;
  };
  EXPECT_EQ(hires(json::object()).upscaler, "latent");
  EXPECT_EQ(hires(json::object()).factor, 2.0F);
  EXPECT_EQ(hires(json::object()).strength, 0.75F);
  EXPECT_EQ(hires({{"hr_upscaler", "Lanczos"}}).upscaler, "lanczos");
  EXPECT_EQ(hires({{"hr_upscaler", "None"}}).upscaler, "lanczos");
  EXPECT_EQ(hires({{"hr_upscaler", "Latent (nearest-exact)"}}).upscaler, "latent");
  EXPECT_EQ(hires({{"hr_resize_x", 1536}, {"hr_resize_y", 0}}).factor, 1.5F);
  json body = base;
  body["hr_upscaler"] = "Nothing 4x";
  EXPECT_THAT(refused(body), HasSubstr("/hr_upscaler: there is no upscaler \"Nothing 4x\""));
  body["hr_upscaler"] = "Latent";
  body["hr_sampler_name"] = "DDIM";
  EXPECT_THAT(warnings_of(body), ElementsAre(HasSubstr("hr_sampler_name")));
  EXPECT_FALSE(spec_of(with("/hr_scale", 2)).hires);
}

TEST_F(Sdapi, Img2ImgFields) {
  EXPECT_EQ(spec_of(picture_with("seed", 1)).strength, 0.75F);
  EXPECT_EQ(spec_of(picture_with("denoising_strength", 0.3)).strength, 0.3F);
  EXPECT_EQ(spec_of(picture_with("width", 512)).width, 512);
  EXPECT_EQ(spec_of(picture_with("seed", 1)).width, 256);
  const ResizeMode kModes[] = {ResizeMode::stretch, ResizeMode::crop, ResizeMode::pad, ResizeMode::stretch};
  for (int mode = 0; mode < 4; ++mode) {
    EXPECT_EQ(spec_of(picture_with("resize_mode", mode)).resize_mode, kModes[mode]) << mode;
  }
}

TEST_F(Sdapi, TheMaskMeansWhatWebuiMeans) {
  json body = picture_with("mask", kPixel);
  EXPECT_EQ(spec_of(body).mask, (MaskUse{.blur = 4, .fill = MaskFill::surroundings, .margin = 0}));
  body.update({{"inpainting_fill", 1},
               {"inpaint_full_res", false},
               {"inpainting_mask_invert", 1},
               {"mask_blur", 8},
               {"inpaint_full_res_padding", 32}});
  EXPECT_EQ(spec_of(body).mask, (MaskUse{.invert = true, .blur = 8, .fill = MaskFill::original}));
  body["inpaint_full_res"] = true;
  EXPECT_EQ(spec_of(body).mask.margin, 32);
  EXPECT_FALSE(spec_of(picture_with("mask", nullptr)).mask_image);
}

TEST_F(Sdapi, WhatIsNotDoneIsAWarning) {
  const std::pair<const char*, json> kCases[] = {
      {"/restore_faces", true}, {"/s_churn", 5}, {"/seed_resize_from_w", 64}};
  for (const auto& [field, value] : kCases) {
    EXPECT_THAT(warnings_of(with(field, value)), ElementsAre(HasSubstr("is not done"))) << field;
  }
  EXPECT_TRUE(spec_of(with("/tiling", true)).tile_x);
}

TEST_F(Sdapi, LimitsAreNamed) {
  const std::pair<json, const char*> kCases[] = {
      {{{"prompt", ""}}, "/prompt: must not be empty"},
      {with("/steps", 500), "/steps: is 500, must be between 1 and 150"},
      {with("/cfg_scale", 50), "/cfg_scale: is 50, must be between 1 and 30"},
      {with("/width", 100), "/width: is 100, must be between 256 and 2048"},
      {with("/height", 513), "/height: is 513, must be a multiple of 8"},
      {with("/batch_size", 0), "/batch_size: is 0"},
      {json::array(), "expected an object, found a list"},
      {with("/prompt", 3), "/prompt: expected a text, found 3"}};
  for (const auto& [body, refusal] : kCases) EXPECT_THAT(refused(body), HasSubstr(refusal)) << body;
}

TEST_F(Sdapi, ThereMustBeACheckpoint) {
  const ModelCatalog nothing({});
  const auto request = decode_sdapi(SdapiKind::txt2img, {{"prompt", "a"}}, {limits_, nothing, options_, ""});
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().error.code, ErrorCode::not_found);
  EXPECT_THAT(request.error().error.message, HasSubstr("there is no checkpoint in the models directories"));
}

class Extras : public Sdapi {
 protected:
  tl::expected<SdapiExtras, Refusal> extras(SdapiExtrasKind kind, const json& body) const {
    return decode_sdapi_extras(kind, body, {limits_, models_, options_, ""});
  }
};

TEST_F(Extras, OnePictureIsEnlargedAsItIs) {
  const auto request = extras(SdapiExtrasKind::single, {{"image", kPixel},
                                                        {"resize_mode", 0},
                                                        {"upscaling_resize", 4},
                                                        {"upscaler_1", "4x-UltraSharp"},
                                                        {"upscaler_2", "None"}});
  ASSERT_TRUE(request) << request.error().error.message;
  ASSERT_EQ(request->jobs.size(), 1U);
  const GenerationSpec& spec = request->jobs[0].spec;
  EXPECT_TRUE(only_enlarges(spec));
  EXPECT_EQ(spec.upscale->model, "4x-UltraSharp.pth");
  EXPECT_EQ(spec.upscale->factor, 4.0F);
}

TEST_F(Extras, ToASize) {
  const auto request = extras(SdapiExtrasKind::single, {{"image", kPixel},
                                                        {"resize_mode", 1},
                                                        {"upscaling_resize_w", 3},
                                                        {"upscaling_resize_h", 3},
                                                        {"upscaler_1", "Lanczos"}});
  ASSERT_TRUE(request) << request.error().error.message;
  EXPECT_EQ(request->jobs[0].spec.upscale->factor, 3.0F);
  EXPECT_EQ(request->jobs[0].spec.upscale->model, "lanczos");
}

TEST_F(Extras, WithoutAnUpscalerNothingIsDone) {
  const auto request = extras(SdapiExtrasKind::single, {{"image", kPixel}});
  ASSERT_TRUE(request);
  EXPECT_THAT(request->jobs, IsEmpty());
  EXPECT_EQ(request->pictures.size(), 1U);
}

TEST_F(Extras, ABatchHasItsPicturesInObjects) {
  const auto request = extras(SdapiExtrasKind::batch,
                              {{"imageList", {{{"data", kPixel}, {"name", "a"}}, {{"data", kPixel}, {"name", "b"}}}},
                               {"upscaler_1", "Lanczos"}});
  ASSERT_TRUE(request) << request.error().error.message;
  EXPECT_EQ(request->jobs.size(), 2U);
  EXPECT_THAT(extras(SdapiExtrasKind::batch, json::object()).error().error.message,
              HasSubstr("/imageList: is required"));
  EXPECT_THAT(extras(SdapiExtrasKind::single, {{"image", kPixel}, {"upscaler_1", "ESRGAN"}}).error().error.message,
              HasSubstr("/upscaler_1: there is no upscaler \"ESRGAN\""));
}

}  // namespace
}  // namespace darkroom
