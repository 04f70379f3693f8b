// OpenAI's images API: the rules I1 to I11, by their numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "catalog.h"
#include "service/api/openai_answers.h"
#include "service/api/openai_request.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Openai : public testing::Test {
 protected:
  OpenaiContext context() const { return {limits_, models_, "sd_xl_base_1.0.safetensors", strict_}; }

  tl::expected<OpenaiRequest, Refusal> ask(const json& fields) const {
    return decode_openai(OpenaiKind::generations, {.fields = fields}, context());
  }

  tl::expected<OpenaiRequest, Refusal> edit(const json& fields, bool with_mask = false) const {
    OpenaiForm form{.fields = fields, .images = {decode_base64(kPixel).value()}};
    if (with_mask) form.masks = form.images;
    return decode_openai(OpenaiKind::edits, form, context());
  }

  OpenaiRequest decoded(json fields) const {
    if (!fields.contains("prompt")) fields["prompt"] = "a cat";
    auto request = ask(fields);
    EXPECT_TRUE(request) << fields << request.error().error.message;
    if (request) return *request;
    OpenaiRequest nothing;
    nothing.jobs.emplace_back();
    return nothing;
  }
  GenerationSpec spec_of(const json& fields) const { return decoded(fields).jobs.front().spec; }

  std::string refused(json fields) const {
    if (!fields.contains("prompt")) fields["prompt"] = "a cat";
    const auto request = ask(fields);
    return request ? "accepted" : request.error().error.message;
  }

  Limits limits_;
  ModelCatalog models_ = test_catalog();
  bool strict_ = false;
};

TEST_F(Openai, I1WithoutResponseFormatPicturesComeInBase64) {
  EXPECT_FALSE(decoded(json::object()).as_url);
  EXPECT_FALSE(decoded({{"response_format", "b64_json"}}).as_url);
  EXPECT_TRUE(decoded({{"response_format", "url"}}).as_url);
  EXPECT_THAT(refused({{"response_format", "file"}}),
              HasSubstr("/response_format: is \"file\", must be b64_json or url"));
}

TEST_F(Openai, I2AnUnknownModelIsTheDefaultOneWithAWarning) {
  for (const char* name : {"gpt-image-1", "dall-e-3", "dall-e-2"}) {
    const OpenaiRequest request = decoded({{"model", name}});
    EXPECT_EQ(request.jobs[0].spec.model, "sd_xl_base_1.0.safetensors");
    EXPECT_THAT(request.warnings, ElementsAre(HasSubstr(name)));
  }
  EXPECT_EQ(spec_of({{"model", "pony"}}).model, "anime/Pony.safetensors");
  EXPECT_THAT(decoded(json::object()).warnings, IsEmpty());
  strict_ = true;
  const auto request = ask({{"prompt", "a"}, {"model", "gpt-image-1"}});
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().error.code, ErrorCode::not_found);
  const json error = openai_error(request.error(), 404)["error"];
  EXPECT_EQ(error["code"], "model_not_found");
  EXPECT_EQ(error["param"], "model");
}

TEST_F(Openai, I3EveryFieldIsTaken) {
  const OpenaiRequest request = decoded({{"prompt", "a cat"},
                                         {"n", 2},
                                         {"size", "1536x1024"},
                                         {"quality", "high"},
                                         {"output_format", "webp"},
                                         {"output_compression", 80},
                                         {"background", "opaque"},
                                         {"moderation", "low"},
                                         {"style", "vivid"},
                                         {"user", "u1"},
                                         {"stream", true},
                                         {"partial_images", 2},
                                         {"anything_else", {1, 2}}});
  const GenerationSpec& spec = request.jobs[0].spec;
  EXPECT_EQ(spec.batch_size, 2);
  EXPECT_EQ(spec.width, 1536);
  EXPECT_EQ(spec.height, 1024);
  EXPECT_EQ(spec.output.format, ImageFormat::webp);
  EXPECT_EQ(spec.output.quality, 80);
  EXPECT_TRUE(request.stream);
  EXPECT_EQ(request.partial_images, 2);
  EXPECT_FALSE(request.echo.contains("user"));
  EXPECT_THAT(refused({{"background", "transparent"}}), HasSubstr("/background: is \"transparent\""));
  EXPECT_THAT(refused({{"output_format", "gif"}}),
              HasSubstr("/output_format: is \"gif\", must be png, jpeg, jpg or webp"));
  EXPECT_THAT(refused({{"partial_images", 4}}), HasSubstr("must be between 0 and 3"));
}

TEST_F(Openai, I3QualityMapsToSteps) {
  const std::tuple<const char*, int, const char*> kCases[] = {{"low", 12, "low"},         {"medium", 25, "medium"},
                                                              {"standard", 25, "medium"}, {"auto", 25, "medium"},
                                                              {"high", 40, "high"},       {"HD", 40, "high"}};
  for (const auto& [quality, steps, name] : kCases) {
    const OpenaiRequest request = decoded({{"quality", quality}});
    EXPECT_EQ(request.jobs[0].spec.steps, steps) << quality;
    EXPECT_EQ(request.quality, name) << quality;
  }
  EXPECT_THAT(refused({{"quality", "ultra"}}), HasSubstr("/quality: is \"ultra\""));
}

TEST_F(Openai, I4ExtensionsAtTheTop) {
  const GenerationSpec spec = spec_of({{"seed", 42},
                                       {"steps", 8},
                                       {"negative_prompt", "blurry"},
                                       {"guidance_scale", 3.5},
                                       {"sampler", "DPM++ 2M"},
                                       {"scheduler", "karras"},
                                       {"loras", {"detail:0.5", {{"name", "Watercolor"}, {"weight", 0.8}}}}});
  EXPECT_EQ(spec.seed, 42U);
  EXPECT_EQ(spec.steps, 8);
  EXPECT_EQ(spec.negative_prompt, "blurry");
  EXPECT_EQ(spec.guidance_scale, 3.5F);
  EXPECT_EQ(spec.scheduler.name, "DPMSolverMultistepScheduler");
  EXPECT_THAT(spec.scheduler.options, testing::Contains(SchedulerOption{"use_karras_sigmas", "true"}));
  ASSERT_EQ(spec.loras.size(), 2U);
  EXPECT_EQ(spec.loras[0].model, "detail.safetensors");
  EXPECT_EQ(spec.loras[0].unet_weight, 0.5F);
  EXPECT_EQ(spec.loras[1].text_encoder_weight, 0.8F);
  EXPECT_EQ(spec_of({{"scheduler", "EulerDiscrete"}}).scheduler.name, "EulerDiscrete");
  EXPECT_EQ(spec_of(json::object()).scheduler.name, "");
  EXPECT_THAT(refused({{"sampler", "Magic"}}), HasSubstr("/sampler: scheduler \"Magic\": unknown"));
  EXPECT_THAT(refused({{"loras", {"nothing"}}}), HasSubstr("/loras/0/name: there is no lora \"nothing\""));
  EXPECT_THAT(refused({{"loras", {"detail:3"}}}), HasSubstr("/loras/0/weight: is 3, must be between -2 and 2"));
}

TEST_F(Openai, I5FormsHaveTextsForNumbersAndManyNamesForImages) {
  const std::string file = decode_base64(kPixel).value();
  for (const char* name : {"image", "image[]", "image[0]"}) {
    const FormPart parts[] = {
        {name, "a.png", "image/png", file}, {"prompt", "", "", "a cat"}, {"n", "", "", "2"},
        {"size", "", "", "512x512"},        {"seed", "", "", "7"},       {"loras[]", "", "", "detail:1"}};
    const auto request = decode_openai(OpenaiKind::edits, openai_form(parts), context());
    ASSERT_TRUE(request) << name << request.error().error.message;
    EXPECT_EQ(request->jobs[0].spec.init_image->bytes, file);
    EXPECT_EQ(request->jobs[0].spec.batch_size, 2);
    EXPECT_EQ(request->jobs[0].spec.seed, 7U);
    EXPECT_EQ(request->jobs[0].spec.loras.size(), 1U);
  }
}

TEST_F(Openai, I6SizesAreAutoOrInTheLimits) {
  EXPECT_EQ(spec_of({{"size", "auto"}}).width, 1024);
  EXPECT_EQ(spec_of({{"size", nullptr}}).width, 1024);
  EXPECT_EQ(spec_of({{"size", "832X1216"}}).height, 1216);
  for (const char* size : {"100x100", "4096x4096", "512", "512x", "x512", "512x513", "large", "512x512x512"}) {
    EXPECT_THAT(refused({{"size", size}}),
                HasSubstr("must be auto or WIDTHxHEIGHT, each 256 to 2048 and a multiple of 8"))
        << size;
  }
  const auto request = ask({{"prompt", "a"}, {"size", "100x100"}});
  EXPECT_EQ(openai_error(request.error(), 400)["error"]["param"], "size");
}

TEST_F(Openai, I10UpToTenPicturesInAsManyJobsAsTheyNeed) {
  const OpenaiRequest request = decoded({{"n", 10}, {"seed", 5}});
  ASSERT_EQ(request.jobs.size(), 2U);
  EXPECT_EQ(request.jobs[0].spec.batch_size + request.jobs[1].spec.batch_size, 10);
  EXPECT_EQ(request.jobs[1].spec.seed, 5U + 9U);
  EXPECT_THAT(refused({{"n", 11}}), HasSubstr("/n: is 11, must be between 1 and 10"));
}

TEST_F(Openai, PromptsAreTakenLiterally) {
  EXPECT_EQ(literal_prompt("a (cat:1.2) [b] \\ BREAK"), "a \\(cat:1.2\\) \\[b\\] \\\\ break");
  EXPECT_EQ(spec_of({{"prompt", "a (cat)"}}).prompt, "a \\(cat\\)");
  EXPECT_EQ(spec_of({{"prompt", "a (cat)"}, {"prompt_syntax", "webui"}}).prompt, "a (cat)");
  EXPECT_THAT(refused({{"prompt", " "}}), HasSubstr("/prompt: is required"));
}

TEST_F(Openai, EditsStartFromThePicture) {
  const auto plain = edit({{"prompt", "a hat"}});
  ASSERT_TRUE(plain) << plain.error().error.message;
  EXPECT_EQ(plain->jobs[0].spec.strength, 0.75F);
  EXPECT_EQ(plain->jobs[0].spec.resize_mode, ResizeMode::crop);
  EXPECT_EQ(plain->size, "256x256");
  EXPECT_EQ(edit({{"prompt", "a"}, {"input_fidelity", "high"}})->jobs[0].spec.strength, 0.5F);
  EXPECT_EQ(edit({{"prompt", "a"}, {"strength", "0.3"}})->jobs[0].spec.strength, 0.3F);
  const auto masked = edit({{"prompt", "a hat"}}, true);
  EXPECT_EQ(masked->jobs[0].spec.mask.part, MaskPart::transparency);
  EXPECT_EQ(masked->jobs[0].spec.strength, 1.0F);
  EXPECT_THAT(decode_openai(OpenaiKind::edits, {.fields = {{"prompt", "a"}}}, context()).error().error.message,
              HasSubstr("/image: is required"));
  const std::string file = decode_base64(kPixel).value();
  EXPECT_THAT(decode_openai(OpenaiKind::edits, {.fields = {{"prompt", "a"}}, .images = {file, file}}, context())
                  .error()
                  .error.message,
              HasSubstr("/image: has 2 pictures, at most 1 is allowed"));
  EXPECT_THAT(decode_openai(OpenaiKind::edits, {.fields = {{"prompt", "a"}}, .images = {"GIF89a"}}, context())
                  .error()
                  .error.message,
              HasSubstr("/image: not a PNG, JPEG or WebP file"));
}

TEST_F(Openai, VariationsNeedNoPrompt) {
  const auto request = decode_openai(OpenaiKind::variations, {.images = {decode_base64(kPixel).value()}}, context());
  ASSERT_TRUE(request) << request.error().error.message;
  EXPECT_EQ(request->jobs[0].spec.prompt, "");
  EXPECT_EQ(request->jobs[0].spec.strength, 0.6F);
}

TEST_F(Openai, AnswersHaveWhatClientsRead) {
  const json answer = openai_answer(decoded({{"prompt", "a cat"}, {"n", 2}}), {{"abc", ""}, {"def", ""}}, 1700000000);
  EXPECT_EQ(answer["created"], 1700000000);
  EXPECT_EQ(answer["data"][0], (json{{"b64_json", encode_base64("abc")}, {"revised_prompt", "a cat"}}));
  EXPECT_EQ(answer["data"].size(), 2U);
  EXPECT_EQ(answer["size"], "1024x1024");
  EXPECT_EQ(answer["quality"], "medium");
  EXPECT_EQ(answer["output_format"], "png");
  const json by_url = openai_answer(decoded({{"response_format", "url"}}), {{"", "http://h/x"}}, 1);
  EXPECT_EQ(by_url["data"][0]["url"], "http://h/x");
  EXPECT_FALSE(by_url["data"][0].contains("b64_json"));
}

TEST_F(Openai, I11EventsHaveWhatSdksRequire) {
  const OpenaiEvent partial = openai_partial_image(decoded({{"quality", "low"}}), "jpeg", 1, 7);
  EXPECT_EQ(partial.name, "image_generation.partial_image");
  EXPECT_EQ(partial.data, (json{{"type", "image_generation.partial_image"},
                                {"b64_json", encode_base64("jpeg")},
                                {"created_at", 7},
                                {"size", "1024x1024"},
                                {"quality", "low"},
                                {"background", "opaque"},
                                {"output_format", "jpeg"},
                                {"partial_image_index", 1}}));
  const OpenaiEvent completed = openai_completed(*edit({{"prompt", "a"}}), "png", 7);
  EXPECT_EQ(completed.name, "image_edit.completed");
  EXPECT_EQ(completed.data["usage"]["total_tokens"], 0);
  EXPECT_EQ(completed.data["usage"]["input_tokens_details"]["image_tokens"], 0);
  EXPECT_EQ(completed.data["output_format"], "png");
}

TEST_F(Openai, I10ModelsAreListed) {
  const json models = openai_models(models_, 7);
  EXPECT_EQ(models["object"], "list");
  EXPECT_EQ(models["data"][0],
            (json{{"id", "sd_xl_base_1.0"}, {"object", "model"}, {"created", 7}, {"owned_by", "darkroom"}}));
  EXPECT_EQ((*openai_model(models_, "pony", 7))["id"], "anime/Pony");
  EXPECT_EQ(openai_model(models_, "x", 7).error().error.code, ErrorCode::not_found);
}

TEST_F(Openai, I9ErrorsAreNested) {
  struct Case {
    ErrorCode code;
    int status;
    const char* type;
  };
  const Case kCases[] = {{ErrorCode::invalid_argument, 400, "invalid_request_error"},
                         {ErrorCode::overloaded, 429, "rate_limit_error"},
                         {ErrorCode::internal, 500, "server_error"},
                         {ErrorCode::worker_lost, 503, "server_error"}};
  for (const auto& [code, status, type] : kCases) {
    const json error = openai_error({{code, "what"}, {}}, status)["error"];
    EXPECT_EQ(error["type"], type);
    EXPECT_EQ(error["message"], "what");
    EXPECT_EQ(error["param"], nullptr);
    EXPECT_EQ(error["code"], name_of(code));
  }
  EXPECT_EQ(openai_stream_error({{ErrorCode::internal, "what"}, {}}, 500).data["error"]["message"], "what");
}

}  // namespace
}  // namespace darkroom
