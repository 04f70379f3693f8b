#include "protocol/codec.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "tests/fakes/json_schema.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Limits kLimits;

GenerationRequest small_generation() {
  GenerationRequest generation;
  generation.spec.model = "sdxl";
  generation.spec.prompt = "a cat";
  return generation;
}

std::vector<Request> one_of_each_request() {
  return {{"1", small_generation()},
          {"2", LoadModel{"m", ModelRole::lora, Precision::float32}},
          {"3", UnloadModel{"m", ModelRole::vae}},
          {"4", ListModels{ModelRole::upscaler}},
          {"5", ListModels{}},
          {"6", ListSchedulers{}},
          {"7", AskStatus{}},
          {"8", CancelJob{"1"}},
          {"9", Shutdown{true}}};
}

Generated some_pictures() {
  Generated generated;
  generated.generated_images = {{"/out/a.png", "a.png", 18446744073709551615U, 256, 512, ImageFormat::jpeg, 99}};
  generated.processing_metrics = {.total_time = 1.5,
                                  .inference_time = 1.25,
                                  .device_name = "cpu",
                                  .memory_used = 5,
                                  .memory_peak = 6,
                                  .memory_predicted = 7,
                                  .model_info = {"base", "refiner", {"lora"}, "cpu", 5},
                                  .compute_type = "bfloat16",
                                  .scheduler = "DDIMScheduler",
                                  .stages = {{"denoise", 1.0}}};
  generated.tags = {"t"};
  return generated;
}

std::vector<Response> one_of_each_response() {
  const auto answer = [](ResponseData data) {
    return Response{
        .request_id = "r", .data = std::move(data), .warnings = {"w"}, .execution_time = 0.5, .timestamp = 1e9};
  };
  return {
      answer(some_pictures()),
      answer(ModelLoaded{"m"}),
      answer(ModelUnloaded{"m"}),
      answer(ModelList{{{"m", ModelRole::lora, "/m", "safetensors", "Stable Diffusion XL", 9, {"float16"}, true, ""}}}),
      answer(SchedulerList{{"DDIMScheduler"}}),
      answer(Status{"running", "cpu", "a", {"b"}, 1, 2, {{"/m", "checkpoint", 3, 4.0}}}),
      answer(JobCancelled{"a"}),
      answer(ShutDown{}),
      Response{.request_id = "r",
               .refusal = Refusal{{ErrorCode::corrupt_data, "broken"}, {{"/data/prompt", "is required"}}}}};
}

std::vector<Event> one_of_each_event() {
  return {{"", Ready{"0.1", "cpu", 7, "float32"}},
          {"r", Progress{.stage = "denoise", .step = 1, .steps = 2, .seconds_left = 0.5}},
          {"", Log{LogLevel::warning, "watch out"}}};
}

Response refusal_of(std::string_view line) {
  auto request = decode_request(line, kLimits);
  EXPECT_FALSE(request) << line;
  return request ? Response{} : request.error();
}

TEST(RequestCodec, EveryRequestComesBackAndFitsTheSchema) {
  const json schema = load_schema("enhanced_request_schema");
  for (const Request& request : one_of_each_request()) {
    const std::string line = encode(request);
    EXPECT_THAT(schema_errors(schema, json::parse(line)), IsEmpty()) << line;
    const auto back = decode_request(line, kLimits);
    ASSERT_TRUE(back) << line << back.error().refusal->error.message;
    EXPECT_EQ(back->request_id, request.request_id);
    EXPECT_EQ(back->body.index(), request.body.index());
    EXPECT_EQ(encode(*back), line);
  }
}

TEST(RequestCodec, FeatureWorkersAreAskedThroughInferenceRequests) {
  const auto ask = [](const std::string& data) {
    auto request =
        decode_request(R"({"message_type":"inference_request","request_id":"1","data":)" + data + "}", kLimits);
    EXPECT_TRUE(request) << data;
    return request->body;
  };
  EXPECT_EQ(std::get<ListModels>(ask(R"({"worker_type":"lora_worker"})")).role, ModelRole::lora);
  EXPECT_EQ(std::get<ListModels>(ask(R"({"worker_type":"upscaler_worker","action":"list"})")).role,
            ModelRole::upscaler);
  const auto load = std::get<LoadModel>(ask(R"({"worker_type":"controlnet_worker","action":"load","model_name":"c"})"));
  EXPECT_EQ(load.role, ModelRole::controlnet);
  EXPECT_EQ(load.model, "c");
  EXPECT_EQ(std::get<UnloadModel>(ask(R"({"worker_type":"vae_manager","action":"unload","model_name":"v"})")).role,
            ModelRole::vae);
  EXPECT_TRUE(std::holds_alternative<ListSchedulers>(ask(R"({"worker_type":"scheduler_manager"})")));
  EXPECT_TRUE(
      std::holds_alternative<GenerationRequest>(ask(R"({"worker_type":"sdxl_worker","prompt":"a","model_name":"m"})")));
}

TEST(RequestCodec, AFeatureWorkersRequestFitsTheSchemaIfItIsTaken) {
  const json schema = load_schema("enhanced_request_schema");
  const auto upscale = [](const json& more) {
    json data = {{"worker_type", "upscaler_worker"},
                 {"action", "upscale"},
                 {"init_image", "a.png"},
                 {"output", {{"upscale", {{"method", "realesrgan"}, {"factor", 2}}}}}};
    data.merge_patch(more);
    return data;
  };
  const auto feature = [](const json& more) {
    json data = {{"worker_type", "lora_worker"}};
    data.merge_patch(more);
    return data;
  };
  const std::vector<std::pair<json, bool>> cases = {
      {feature(json::object()), true},
      {feature({{"action", "list"}}), true},
      {feature({{"action", "load"}}), false},
      {feature({{"action", "load"}, {"model_name", "m"}, {"dtype", "float32"}}), true},
      {feature({{"action", "unload"}, {"model_name", "m"}}), true},
      {feature({{"action", "unload"}, {"model_name", "m"}, {"dtype", "float32"}}), false},
      {feature({{"model_name", "m"}}), false},
      {feature({{"action", "upscale"}}), false},
      {{{"worker_type", "scheduler_manager"}, {"action", "list"}}, true},
      {{{"worker_type", "scheduler_manager"}, {"action", "load"}}, false},
      {upscale(json::object()), true},
      {upscale({{"init_image", nullptr}}), false},
      {upscale({{"output", {{"upscale", nullptr}}}}), false},
      {upscale({{"output", {{"upscale", {{"enabled", false}}}}}}), false},
      {upscale({{"output", {{"upscale", {{"factor", 99}}}}}}), false},
      {upscale({{"output", {{"format", "webp"}, {"quality", 80}}}, {"metadata", {{"timeout", 10}}}}), true},
      {upscale({{"precision", {{"dtype", "float32"}}}}), true},
      {upscale({{"prompt", "a cat"}}), false},
      {upscale({{"seed", 7}}), false},
  };
  for (const auto& [data, taken] : cases) {
    const json message = {{"message_type", "inference_request"}, {"request_id", "r"}, {"data", data}};
    EXPECT_EQ(decode_request(message.dump(), kLimits).has_value(), taken) << data;
    EXPECT_EQ(schema_errors(schema, message).empty(), taken) << data;
  }
  const auto request = decode_request(
      json{{"message_type", "inference_request"}, {"request_id", "r"}, {"data", upscale(json::object())}}.dump(),
      kLimits);
  ASSERT_TRUE(request);
  EXPECT_TRUE(only_enlarges(std::get<GenerationRequest>(request->body).spec));
}

TEST(RequestCodec, EveryMistakeOfAnUpscaleIsNamed) {
  const Response response = refusal_of(
      R"({"message_type":"inference_request","request_id":"r","data":{"worker_type":"upscaler_worker",
          "action":"upscale","prompt":"x","metadata":{"timeout":0}}})");
  std::vector<std::string> pointers;
  for (const Complaint& complaint : response.refusal->complaints) pointers.push_back(complaint.pointer);
  EXPECT_THAT(pointers,
              ElementsAre("/data/prompt", "/data/init_image", "/data/output/upscale", "/data/metadata/timeout"));
}

TEST(RequestCodec, ARefusalCarriesTheRequestsIdAndEveryComplaint) {
  const Response response = refusal_of(
      R"({"message_type":"inference_request","request_id":"r7","data":{"prompt":"","model_name":"m","width":100}})");
  EXPECT_EQ(response.request_id, "r7");
  ASSERT_TRUE(response.refusal);
  EXPECT_EQ(response.refusal->error.code, ErrorCode::invalid_argument);
  EXPECT_THAT(response.refusal->error.message,
              HasSubstr("Validation failed: /data/prompt: must not be empty; /data/width"));
  ASSERT_EQ(response.refusal->complaints.size(), 3U);
  EXPECT_EQ(response.refusal->complaints[1].pointer, "/data/width");
}

TEST(RequestCodec, UnknownTypesAreAnsweredByName) {
  const Response message = refusal_of(R"({"message_type":"inferense_request","request_id":"a"})");
  EXPECT_EQ(message.request_id, "a");
  EXPECT_EQ(message.refusal->error.message, "Unknown message type: inferense_request; did you mean inference_request?");
  const Response worker = refusal_of(R"({"message_type":"inference_request","data":{"worker_type":"x"}})");
  EXPECT_EQ(worker.request_id, "unknown");
  EXPECT_THAT(worker.refusal->error.message,
              HasSubstr("Enhanced worker not available: x; there are enhanced_sdxl_worker"));
}

TEST(RequestCodec, AnEnvelopeThatIsWrongIsRefusedWithWhatCouldBeRead) {
  EXPECT_EQ(refusal_of("nonsense").request_id, "unknown");
  EXPECT_EQ(refusal_of(R"([1])").request_id, "unknown");
  EXPECT_EQ(refusal_of(R"({"message_type":"status_request","request_id":5})").request_id, "unknown");
  EXPECT_EQ(refusal_of(R"({"message_type":7,"request_id":"a"})").request_id, "a");
  EXPECT_EQ(refusal_of(R"({"message_type":"status_request","request_id":"a","data":3})").request_id, "a");
  EXPECT_EQ(
      refusal_of(R"({"message_type":"cancel_request","request_id":"a","data":{}})").refusal->complaints[0].pointer,
      "/data/request_id");
  EXPECT_EQ(refusal_of(R"({"message_type":"model_load_request","request_id":"a"})").refusal->complaints[0].pointer,
            "/data/model_name");
  EXPECT_EQ(
      refusal_of(
          R"({"message_type":"inference_request","request_id":"a","data":{"worker_type":"lora_worker","action":"load"}})")
          .refusal->complaints[0]
          .pointer,
      "/data/model_name");
}

TEST(ResponseCodec, EveryResponseComesBackAndFitsTheSchema) {
  const json schema = load_schema("enhanced_response_schema");
  for (const Response& response : one_of_each_response()) {
    const std::string line = encode(response);
    EXPECT_THAT(schema_errors(schema, json::parse(line)), IsEmpty()) << line;
    const Result<WorkerMessage> back = decode_worker_message(line);
    ASSERT_TRUE(back) << line << back.error().message;
    EXPECT_EQ(encode(std::get<Response>(*back)), line);
  }
}

TEST(ResponseCodec, AnEventComesBackAndFitsTheSchema) {
  const json schema = load_schema("worker_event_schema");
  for (const Event& event : one_of_each_event()) {
    const std::string line = encode(event);
    EXPECT_THAT(schema_errors(schema, json::parse(line)), IsEmpty()) << line;
    const Result<WorkerMessage> back = decode_worker_message(line);
    ASSERT_TRUE(back) << line << back.error().message;
    EXPECT_EQ(encode(std::get<Event>(*back)), line);
  }
}

TEST(ResponseCodec, WhatIsNoMessageIsAnError) {
  for (const char* line : {"", "5", "{}", R"({"message_type":"surprise","request_id":"","data":{}})",
                           R"({"message_type":"progress","request_id":"","data":{"stage":1}})"}) {
    EXPECT_FALSE(decode_worker_message(line)) << line;
  }
}

TEST(ResponseCodec, AMessageThatIsNotUtf8IsStillSent) {
  const std::string line = encode(Event{"", Log{LogLevel::error, "bad \xff byte"}});
  EXPECT_TRUE(parse_json(line)) << line;
}

// The schema and the decoder agree: whatever the schema bounds, the decoder bounds there too.
class RequestSchema : public testing::Test {
 protected:
  const json schema_ = load_schema("enhanced_request_schema");

  json message(const json& data) const {
    return {{"message_type", "inference_request"}, {"request_id", "r"}, {"data", data}};
  }
  // Has what other fields need beside them.
  static json minimal() {
    return {{"prompt", "a"},
            {"models", {{"base", "m"}, {"refiner", "r"}}},
            {"init_image", "i.png"},
            {"mask_image", "m.png"},
            {"output", {{"upscale", {{"method", "u"}}}}}};
  }

  // Puts the value at the pointer and asks both.
  void expect_same_verdict(const std::string& pointer, const json& value) const {
    json data = minimal();
    try {
      data[json::json_pointer(pointer)] = value;
    } catch (const json::exception&) {
      return;
    }
    const json whole = message(data);
    const bool by_schema = schema_errors(schema_, whole).empty();
    const auto request = decode_request(whole.dump(), kLimits);
    EXPECT_EQ(by_schema, request.has_value()) << pointer << " = " << value.dump().substr(0, 100) << ": "
                                              << (request ? "" : request.error().refusal->error.message);
  }

  void walk(const json& properties, const std::string& at) const {
    for (const auto& [key, schema] : properties.items()) {
      const std::string pointer = at + "/" + key;
      if (schema.contains("properties")) walk(schema["properties"], pointer);
      for (const json& value : {json(-3), json(0), json(1), json(1.5), json(7), json(1e6), json("x"), json(true),
                                json::array(), json::object(), json("")}) {
        expect_same_verdict(pointer, value);
      }
      for (const char* bound : {"minimum", "maximum"}) {
        if (!schema.contains(bound)) continue;
        const auto limit = schema[bound].get<double>();
        if (limit > 1e15) continue;
        for (const double value : {limit - 1, limit, limit + 1}) expect_same_verdict(pointer, value);
      }
      if (schema.contains("enum")) {
        for (const json& value : schema["enum"]) expect_same_verdict(pointer, value);
      }
    }
  }
};

TEST_F(RequestSchema, AndTheDecoderAgreeOnEveryFieldAndItsBounds) {
  walk(schema_["$defs"]["generation"]["properties"], "");
}

TEST_F(RequestSchema, AndTheDecoderAgreeOnAnUnknownKey) { expect_same_verdict("/surprise", 1); }

}  // namespace
}  // namespace darkroom
