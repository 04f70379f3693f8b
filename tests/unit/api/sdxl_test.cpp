// The specification's service side, rule by rule; each table names the rule that it is written from.
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/api/sdxl_answer.h"
#include "service/api/sdxl_request.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Limits kLimits;

json minimal() { return {{"model", {{"base", "sdxl"}}}, {"conditioning", {{"prompt", "a cat"}}}}; }

json with(const std::string& pointer, const json& value) {
  json body = minimal();
  body[json::json_pointer(pointer)] = value;
  return body;
}

SdxlRequest read(const json& body) {
  auto request = read_sdxl_request(body);
  EXPECT_TRUE(request) << body << as_error(request.error()).message;
  return request ? *request : SdxlRequest{};
}

struct Message {
  json data;
  std::vector<std::string> warnings;
};

Message transformed(const json& body) {
  Message message;
  message.data = transform_sdxl_request(read(body), "r1", kLimits, message.warnings)["data"];
  return message;
}

GenerationRequest decoded(const json& body) {
  auto request = decode_sdxl_request(body, kLimits);
  EXPECT_TRUE(request) << body << as_error(request.error()).message;
  return request ? *request : GenerationRequest{};
}

std::vector<std::string> complaints_about(const json& body) {
  const auto request = decode_sdxl_request(body, kLimits);
  std::vector<std::string> lines;
  if (request) return lines;
  for (const Complaint& complaint : request.error()) lines.push_back(complaint.pointer + ": " + complaint.message);
  return lines;
}

// TransformEnhancedSDXLRequest: what each field of the message is where the request has none.
TEST(SdxlTransformer, HasTheSpecificationsDefaults) {
  const json data = transformed(json::object()).data;
  const std::pair<const char*, json> kDefaults[] = {{"/prompt", ""},
                                                    {"/negative_prompt", ""},
                                                    {"/model_name", "cyberrealisticPony_v125"},
                                                    {"/models/base", "cyberrealisticPony_v125"},
                                                    {"/models/refiner", nullptr},
                                                    {"/models/vae", nullptr},
                                                    {"/hyperparameters/num_inference_steps", 25},
                                                    {"/hyperparameters/guidance_scale", 7.5},
                                                    {"/hyperparameters/seed", -1},
                                                    {"/hyperparameters/strength", 0.8},
                                                    {"/dimensions/width", 1024},
                                                    {"/dimensions/height", 1024},
                                                    {"/scheduler", "DPMSolverMultistepScheduler"},
                                                    {"/lora", {{"enabled", false}, {"models", json::array()}}},
                                                    {"/controlnet", {{"enabled", false}}},
                                                    {"/output/format", "png"},
                                                    {"/output/quality", 95},
                                                    {"/output/save_path", "outputs/"},
                                                    {"/output/upscale", {{"enabled", false}}},
                                                    {"/batch/size", 1},
                                                    {"/batch/parallel", false},
                                                    {"/precision/dtype", "float16"},
                                                    {"/precision/vae_dtype", "float32"},
                                                    {"/precision/cpu_offload", false},
                                                    {"/precision/attention_slicing", true},
                                                    {"/precision/vae_slicing", true},
                                                    {"/metadata/request_id", "r1"},
                                                    {"/metadata/priority", "normal"},
                                                    {"/metadata/timeout", 300},
                                                    {"/worker_type", "sdxl_worker"}};
  for (const auto& [pointer, value] : kDefaults) EXPECT_EQ(data.at(json::json_pointer(pointer)), value) << pointer;
}

// TransformEnhancedSDXLRequest: "Fix protocol mismatch".
TEST(SdxlTransformer, WrapsTheDataInAnInferenceRequest) {
  std::vector<std::string> warnings;
  const json message = transform_sdxl_request(read(minimal()), "r7", kLimits, warnings);
  EXPECT_EQ(message["message_type"], "inference_request");
  EXPECT_EQ(message["request_id"], "r7");
  EXPECT_THAT(warnings, IsEmpty());
}

// TransformEnhancedSDXLRequest: "Direct mapping".
TEST(SdxlTransformer, PutsEachFieldWhereTheWorkerLooks) {
  struct Case {
    const char* from;
    json value;
    const char* to;
  };
  const Case kCases[] = {{"/conditioning/prompt", "p", "/prompt"},
                         {"/conditioning/negativePrompt", "n", "/negative_prompt"},
                         {"/model/base", "b", "/models/base"},
                         {"/model/base", "b", "/model_name"},
                         {"/model/refiner", "r", "/models/refiner"},
                         {"/model/vae", "v", "/models/vae"},
                         {"/scheduler/steps", 30, "/hyperparameters/num_inference_steps"},
                         {"/scheduler/guidanceScale", 5.5, "/hyperparameters/guidance_scale"},
                         {"/hyperparameters/seed", 18446744073709551615U, "/hyperparameters/seed"},
                         {"/hyperparameters/strength", 0.3, "/hyperparameters/strength"},
                         {"/hyperparameters/width", 832, "/dimensions/width"},
                         {"/hyperparameters/height", 1216, "/dimensions/height"},
                         {"/hyperparameters/batchSize", 4, "/batch/size"},
                         {"/output/format", "jpeg", "/output/format"},
                         {"/output/quality", 80, "/output/quality"},
                         {"/output/savePath", "a/b.png", "/output/save_path"},
                         {"/init_image", "in.png", "/init_image"}};
  for (const auto& [from, value, to] : kCases) {
    EXPECT_EQ(transformed(with(from, value)).data.at(json::json_pointer(to)), value) << from;
  }
}

// System.Text.Json with PropertyNameCaseInsensitive, as an ASP.NET service binds its DTOs.
TEST(SdxlRequest, NamesCountWithoutRegardToCase) {
  const GenerationSpec spec = decoded(json::parse(R"({"MODEL": {"Base": "b"}, "Conditioning": {"Prompt": "p",
      "NegativePrompt": "n", "LORAS": [{"ModelPath": "x", "WEIGHT": 0.5}]}, "HyperParameters": {"BatchSize": 2},
      "scheduler": {"GUIDANCESCALE": 4}})"))
                                  .spec;
  EXPECT_EQ(spec.model, "b");
  EXPECT_EQ(spec.prompt, "p");
  EXPECT_EQ(spec.negative_prompt, "n");
  EXPECT_EQ(spec.batch_size, 2);
  EXPECT_EQ(spec.guidance_scale, 4.0F);
  ASSERT_EQ(spec.loras.size(), 1U);
  EXPECT_EQ(spec.loras[0].unet_weight, 0.5F);
  EXPECT_THAT(
      complaints_about(json::parse(R"({"Model": {"base": "b", "BASE": "c"}, "conditioning": {"prompt": "p"}})")),
      ElementsAre("/model/base: is given twice"));
}

// ValidateAndClampDimension: clamp to 256…2048, then round down to a multiple of 8.
TEST(SdxlTransformer, ClampsDimensionsAndSaysSo) {
  const std::pair<int, int> kCases[] = {{250, 256}, {4096, 2048}, {1023, 1016}, {256, 256}, {2048, 2048}, {-1, 256}};
  for (const auto& [given, taken] : kCases) {
    const Message message = transformed(with("/hyperparameters/width", given));
    EXPECT_EQ(message.data["dimensions"]["width"], taken) << given;
    if (given == taken) {
      EXPECT_THAT(message.warnings, IsEmpty());
    } else {
      EXPECT_THAT(message.warnings, ElementsAre(HasSubstr("width is " + std::to_string(given)))) << given;
    }
  }
}

// Math.Clamp of Quality (1…100), BatchSize (1…9), ControlNet Weight (0…2), LoRA Weight (−2…2).
TEST(SdxlTransformer, ClampsTheOthersAndSaysSo) {
  struct Case {
    const char* field;
    json value;
    const char* in_message;
    json taken;
    const char* warning;
  };
  const json lora = {{{"modelPath", "l"}, {"weight", 2.5}}};
  const json net = {{{"modelPath", "c"}, {"weight", 2.5}, {"conditioningImage", "c.png"}}};
  const Case kCases[] = {
      {"/output/quality", 0, "/output/quality", 1, "quality is 0, outside 1 to 100; taken as 1"},
      {"/output/quality", 101, "/output/quality", 100, "quality is 101"},
      {"/hyperparameters/batchSize", 10, "/batch/size", 9, "batchSize is 10, outside 1 to 9; taken as 9"},
      {"/hyperparameters/batchSize", 0, "/batch/size", 1, "batchSize is 0"},
      {"/conditioning/loRAs", lora, "/lora/models/0/weight", 2.0, "LoRA is 2.5, outside -2 to 2; taken as 2"},
      {"/conditioning/controlNets", net, "/controlnet/conditioning_scale", 2.0, "ControlNet is 2.5, outside 0 to 2"}};
  for (const auto& [field, value, in_message, taken, warning] : kCases) {
    const Message message = transformed(with(field, value));
    EXPECT_EQ(message.data.at(json::json_pointer(in_message)), taken) << field;
    EXPECT_THAT(message.warnings, ElementsAre(HasSubstr(warning)));
  }
  EXPECT_THAT(decoded(with("/output/quality", 0)).warnings, ElementsAre(HasSubstr("quality is 0")));
}

// TransformLoRAConfiguration, ExtractModelName: the file's name without its folders and extension.
TEST(SdxlTransformer, NamesLorasByTheirFiles) {
  const std::pair<const char*, const char*> kCases[] = {{"path/to/model.safetensors", "model"},
                                                        {"C:\\loras\\Style.safetensors", "Style"},
                                                        {"plain", "plain"},
                                                        {"v1.5.safetensors", "v1.5"}};
  for (const auto& [path, name] : kCases) {
    const json data = transformed(with("/conditioning/loRAs", {{{"modelPath", path}, {"weight", 0.5}}})).data;
    EXPECT_EQ(data["lora"], (json{{"enabled", true}, {"models", {{{"name", name}, {"weight", 0.5}}}}})) << path;
  }
}

// InferControlNetType.
TEST(SdxlTransformer, InfersTheControlnetTypeFromItsFile) {
  const std::pair<const char*, const char*> kCases[] = {
      {"xl-canny.safetensors", "canny"},    {"a/Depth_XL.safetensors", "depth"},  {"openpose.safetensors", "pose"},
      {"scribble.safetensors", "scribble"}, {"NormalBae.safetensors", "normal"},  {"seg_v2.safetensors", "seg"},
      {"lineart.safetensors", "lineart"},   {"canny/union.safetensors", "canny"}, {"depth/x.safetensors", "canny"}};
  for (const auto& [path, type] : kCases) EXPECT_EQ(infer_controlnet_type(path), type) << path;
}

// TransformControlNetConfiguration: enabled, preprocessor at 512; and, beyond "the first ControlNet for now", all.
TEST(SdxlTransformer, TakesEveryControlnet) {
  const json one = {{"modelPath", "nets/canny-xl.safetensors"}, {"weight", 0.7}, {"conditioningImage", "c.png"}};
  EXPECT_EQ(transformed(with("/conditioning/controlNets", json::array({one}))).data["controlnet"],
            (json{{"enabled", true},
                  {"type", "canny"},
                  {"model", "canny-xl"},
                  {"conditioning_scale", 0.7},
                  {"control_image", "c.png"},
                  {"preprocessor", {{"enabled", true}, {"resolution", 512}}}}));
  const GenerationSpec spec = decoded(with("/conditioning/controlNets", json::array({one, one}))).spec;
  ASSERT_EQ(spec.controlnets.size(), 2U);
  EXPECT_EQ(spec.controlnets[1].scale, 0.7F);
  EXPECT_EQ(spec.controlnets[1].preprocess.name, "canny");
}

// TransformUpscaleConfiguration.
TEST(SdxlTransformer, UpscalesWhereAStepSaysSo) {
  struct Case {
    json steps;
    json upscale;
    std::size_t warnings;
  };
  const json off = {{"enabled", false}};
  const json four = {{"enabled", true}, {"factor", 4.0}, {"method", "realesrgan"}};
  const Case kCases[] = {{json::array(), off, 0},
                         {{{{"type", "Upscale"}, {"factor", 4.0}}}, four, 0},
                         {{{{"type", "UPSCALE"}, {"factor", 4.0}, {"model", "RealESRGAN"}}}, four, 0},
                         {{{{"type", "FaceFix"}}, {{"type", "upscale"}, {"factor", 4.0}}}, four, 1},
                         {{{{"type", "upscale"}, {"factor", 4.0}}, {{"type", "upscale"}}}, four, 1}};
  for (const auto& [steps, upscale, warnings] : kCases) {
    const Message message = transformed(with("/postProcessing", steps));
    EXPECT_EQ(message.data["output"]["upscale"], upscale) << steps;
    EXPECT_EQ(message.warnings.size(), warnings) << steps;
  }
}

// MapSchedulerType: the ten of the specification, its fallback, and what users write beyond them.
TEST(SdxlTransformer, MapsSchedulerTypes) {
  struct Case {
    const char* type;
    const char* scheduler;
    bool known;
  };
  const Case kCases[] = {{"DPMSolverMultistep", "DPMSolverMultistepScheduler", true},
                         {"DDIM", "DDIMScheduler", true},
                         {"EulerDiscrete", "EulerDiscreteScheduler", true},
                         {"EulerAncestral", "EulerAncestralDiscreteScheduler", true},
                         {"DPMSolverSinglestep", "DPMSolverSinglestepScheduler", true},
                         {"KDPM2Discrete", "KDPM2DiscreteScheduler", true},
                         {"KDPM2Ancestral", "KDPM2AncestralDiscreteScheduler", true},
                         {"HeunDiscrete", "HeunDiscreteScheduler", true},
                         {"LMSDiscrete", "LMSDiscreteScheduler", true},
                         {"UniPCMultistep", "UniPCMultistepScheduler", true},
                         {"DPM++ 2M Karras", "DPM++ 2M Karras", true},
                         {"FlowMatch", "DPMSolverMultistepScheduler", false}};
  for (const auto& [type, scheduler, known] : kCases) {
    EXPECT_EQ(map_scheduler_type(type), std::pair(std::string(scheduler), known)) << type;
  }
  EXPECT_THAT(transformed(with("/scheduler/type", "FlowMatch")).warnings, ElementsAre(HasSubstr("\"FlowMatch\"")));
}

struct Feature {
  const char* pointer;
  json value;
  const char* tag;  // "": none
};

const std::vector<Feature>& features() {
  static const std::vector<Feature> all = {
      {"/conditioning/loRAs", {{{"modelPath", "l"}}}, "lora_enhanced"},
      {"/conditioning/controlNets", {{{"modelPath", "c"}, {"conditioningImage", "c.png"}}}, "controlnet_guided"},
      {"/model/refiner", "r", "refiner_enhanced"},
      {"/model/vae", "v", ""},
      {"/postProcessing", {{{"type", "Upscale"}, {"factor", 2}}}, "post_processed"},
      {"/hyperparameters/batchSize", 2, ""}};
  return all;
}

// WorkerTypeResolver.HasAdvancedFeatures.
TEST(SdxlWorkerType, IsTheEnhancedOneForEachAdvancedFeature) {
  EXPECT_EQ(worker_type_for(read(minimal())), WorkerType::sdxl_worker);
  for (const auto& [pointer, value, tag] : features()) {
    EXPECT_EQ(worker_type_for(read(with(pointer, value))), WorkerType::enhanced_sdxl_worker) << pointer;
  }
  for (const auto& [pointer, value] : {std::pair<const char*, json>{"/model/refiner", ""},
                                       {"/model/vae", nullptr},
                                       {"/hyperparameters/batchSize", 1},
                                       {"/conditioning/loRAs", json::array()}}) {
    EXPECT_EQ(worker_type_for(read(with(pointer, value))), WorkerType::sdxl_worker) << pointer;
  }
}

// GenerateRequestTags.
TEST(SdxlTags, SayWhatARequestUses) {
  EXPECT_THAT(sdxl_tags(read(minimal())), ElementsAre("enhanced_sdxl", "c_sharp_service"));
  for (const auto& [pointer, value, tag] : features()) {
    const std::vector<std::string> tags = sdxl_tags(read(with(pointer, value)));
    if (*tag == '\0') {
      EXPECT_EQ(tags.size(), 2U) << pointer;
    } else {
      EXPECT_THAT(tags, ElementsAre("enhanced_sdxl", "c_sharp_service", tag));
    }
  }
  EXPECT_THAT(decoded(with("/metadata/tags", {"mine"})).job.tags, Contains("mine"));
}

// ValidateRequest, and the worker's ranges that it leaves out.
TEST(SdxlValidator, RefusesWithTheFieldTheValueAndTheLimit) {
  struct Case {
    const char* pointer;
    json value;
    const char* complaint;
  };
  const json weight = {{{"modelPath", "l"}, {"weight", -2.5}}};
  const json unnamed = {{{"modelPath", " "}}};
  const Case kCases[] = {
      {"/conditioning/prompt", nullptr, "/conditioning/prompt: Prompt is required and cannot be empty"},
      {"/conditioning/prompt", " \n", "/conditioning/prompt: Prompt is required and cannot be empty"},
      {"/model/base", "", "/model/base: Base model is required"},
      {"/model", nullptr, "/model/base: Base model is required"},
      {"/hyperparameters/width", 250,
       "/hyperparameters/width: Width must be between 256 and 2048 and divisible by 8, but is 250"},
      {"/hyperparameters/height", 2056,
       "/hyperparameters/height: Height must be between 256 and 2048 and divisible by 8, but is 2056"},
      {"/conditioning/loRAs", unnamed, "/conditioning/loRAs/0/modelPath: LoRA ModelPath cannot be empty"},
      {"/conditioning/loRAs", weight, "/conditioning/loRAs/0/weight: LoRA weight -2.5 must be between -2.0 and 2.0"},
      {"/scheduler/steps", 151, "/scheduler/steps: is 151, must be between 1 and 150"},
      {"/scheduler/steps", 20.5, "/scheduler/steps: expected a whole number, found 20.5"},
      {"/scheduler/guidanceScale", 0.5, "/scheduler/guidanceScale: is 0.5, must be between 1 and 30"},
      {"/hyperparameters/strength", 1.5, "/hyperparameters/strength: is 1.5, must be between 0 and 1"},
      {"/hyperparameters/seed", -2, "/hyperparameters/seed: is -2, must be between 0 and 18446744073709551615"},
      {"/output/format", "bmp", "/output/format: is \"bmp\", must be png, jpeg, jpg or webp"},
      {"/output/savePath", "a.gif", "/output/savePath: ends in .gif, must end in .png, .jpg, .jpeg, .webp or /"},
      {"/postProcessing",
       {{{"type", "Upscale"}, {"factor", 9}}},
       "/postProcessing/factor: is 9, must be between 1 and 8"},
      {"/conditioning/controlNets",
       {{{"modelPath", "c"}}},
       "/conditioning/controlNets/0/conditioningImage: must not be empty"},
      {"/hyperparameters/width", "wide", "/hyperparameters/width: expected a whole number, found \"wide\""},
      {"/conditioning/promt", "x", "/conditioning/promt: is not known; did you mean prompt?"}};
  for (const auto& [pointer, value, complaint] : kCases) {
    EXPECT_THAT(complaints_about(with(pointer, value)), Contains(complaint)) << pointer;
  }
}

TEST(SdxlValidator, ComplainsOfEverythingAtOnceAndOfNothingTwice) {
  EXPECT_THAT(complaints_about(json::parse(R"({"hyperparameters": {"width": 100}, "scheduler": {"steps": 0}})")),
              ElementsAre(HasSubstr("/conditioning/prompt"), HasSubstr("/model/base"),
                          HasSubstr("/hyperparameters/width"), HasSubstr("/scheduler/steps")));
}

TEST(SdxlRequest, TheWorkersFurtherKeysGoThrough) {
  json body = with("/init_image", "in.png");
  body["conditioning"]["prompt"] = "";
  body["initImage"] = body["init_image"];
  body.erase("init_image");
  body["hires"] = {{"factor", 1.5}};
  body["metadata"] = {{"priority", "high"}, {"timeout", 60}};
  body["model"]["refiner"] = "r";
  body["refiner"] = {{"switch_at", 0.7}};
  const GenerationRequest request = decoded(body);
  EXPECT_EQ(request.spec.init_image->path, "in.png");
  EXPECT_EQ(request.spec.hires->factor, 1.5F);
  EXPECT_EQ(request.spec.refiner->switch_at, 0.7F);
  EXPECT_EQ(request.job.priority, Priority::high);
  EXPECT_EQ(request.job.timeout, 60);
  EXPECT_THAT(request.job.tags, Contains("enhanced_sdxl"));
  EXPECT_THAT(request.warnings, IsEmpty());
}

TEST(JobRequest, TakesTheEnhancedFormAndTheFlatOne) {
  EXPECT_EQ(decode_job_request(minimal(), kLimits)->spec.model, "sdxl");
  EXPECT_EQ(decode_job_request({{"prompt", "a"}, {"model_name", "m"}, {"width", 512}}, kLimits)->spec.width, 512);
  EXPECT_FALSE(decode_job_request(json::array(), kLimits));
}

// PyTorchWorkerService.SendEnhancedCommandAsync: "Request validation failed: …", joined by commas.
TEST(SdxlAnswer, OfAnInvalidRequestJoinsTheErrors) {
  const auto request = decode_sdxl_request(json::object(), kLimits);
  ASSERT_FALSE(request);
  const json answer = sdxl_validation_failure("r1", request.error(), 12.5);
  EXPECT_EQ(answer["success"], false);
  EXPECT_EQ(answer["error"],
            "Request validation failed: Prompt is required and cannot be empty, Base model is required");
  EXPECT_EQ(answer["errorCode"], "invalid_argument");
  EXPECT_EQ(answer["complaints"][1]["pointer"], "/model/base");
  EXPECT_EQ(answer["data"], nullptr);
}

// … and "Processing failed: …"; the shape is _create_error_response's.
TEST(SdxlAnswer, OfAFailedJobSaysWhatFailed) {
  const json answer = sdxl_failure("r1", {ErrorCode::not_found, "there is no checkpoint"}, {"w"}, 12.5);
  EXPECT_EQ(answer["error"], "Processing failed: there is no checkpoint");
  EXPECT_EQ(answer["errorCode"], "not_found");
  EXPECT_EQ(answer["timestamp"], 12.5);
  EXPECT_THAT(answer["warnings"], ElementsAre("w"));
}

// process_request's response_data: generated_images and processing_metrics with model_info.
TEST(SdxlAnswer, OfASuccessHasPicturesAndMetrics) {
  SdxlOutcome outcome{.request_id = "r1", .tags = {"t"}, .execution_time = 2.0};
  outcome.pictures.push_back({.image = {.filename = "a.png", .seed = 7, .width = 64, .height = 32, .bytes = 9},
                              .url = "/v1/jobs/x/pictures/0"});
  outcome.metrics.total_time = 2.0;
  outcome.metrics.model_info.base_model = "sdxl";
  const json answer = sdxl_answer(outcome);
  EXPECT_EQ(answer["success"], true);
  EXPECT_EQ(answer["error"], nullptr);
  EXPECT_EQ(answer["requestId"], "r1");
  EXPECT_EQ(answer["executionTime"], 2.0);
  EXPECT_EQ(answer["data"]["generatedImages"][0], (json{{"filename", "a.png"},
                                                        {"seed", 7},
                                                        {"width", 64},
                                                        {"height", 32},
                                                        {"format", "png"},
                                                        {"bytes", 9},
                                                        {"url", "/v1/jobs/x/pictures/0"}}));
  const json& metrics = answer["data"]["processingMetrics"];
  EXPECT_EQ(metrics["totalTime"], 2.0);
  EXPECT_EQ(metrics["modelInfo"]["baseModel"], "sdxl");
  EXPECT_EQ(metrics["modelInfo"]["refinerModel"], nullptr);
}

TEST(SdxlValidateAnswer, SaysWhatWouldBeMade) {
  json body = with("/conditioning/loRAs", {{{"modelPath", "l"}}});
  body["output"]["quality"] = 300;
  const json answer = sdxl_validate_answer(body, kLimits);
  EXPECT_EQ(answer["valid"], true);
  EXPECT_EQ(answer["workerType"], "enhanced_sdxl_worker");
  EXPECT_EQ(answer["scheduler"], "DPMSolverMultistepScheduler");
  EXPECT_THAT(answer["warnings"], ElementsAre(HasSubstr("quality is 300")));
  EXPECT_THAT(answer["tags"], Contains("lora_enhanced"));
}

TEST(SdxlValidateAnswer, SaysWhatIsWrong) {
  const json answer = sdxl_validate_answer(json::array(), kLimits);
  EXPECT_EQ(answer["valid"], false);
  EXPECT_THAT(answer["errors"], ElementsAre("expected an object, found a list"));
}

}  // namespace
}  // namespace darkroom
