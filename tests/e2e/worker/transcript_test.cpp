// The specification's own requests, one a file of transcripts/, and what the worker answers: every message that passes
// fits the schemas of api/, and pictures are diffusers'.
//   about             what the case shows
//   request           as it is sent
//   request_is_valid  false: neither worker nor schema may take it
//   response          what must be in the answer; "…" stands for anything, also within a text
//   pictures          files of the reference vectors that the answer's pictures must equal within 2 of 255
#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/image/compare.h"
#include "tests/e2e/worker/real_worker.h"
#include "tests/fakes/json_schema.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::IsEmpty;

constexpr int kTolerance = 2;  // of 255: what float32 sums in another order make of it
constexpr std::string_view kAnything = "…";

fs::path transcripts() { return test::source_dir() / "tests/e2e/worker/transcripts"; }

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(transcripts())) names.push_back(entry.path().stem());
  std::ranges::sort(names);
  return names;
}

// The parts between "…" in their order, the first and the last at the ends.
bool text_fits(std::string_view pattern, std::string_view text) {
  std::size_t at = 0;
  bool anchored = true;
  while (true) {
    const std::size_t gap = pattern.find(kAnything);
    const std::string_view part = pattern.substr(0, gap);
    if (gap == std::string_view::npos) {
      return anchored ? text.substr(at) == part : text.size() >= at + part.size() && text.ends_with(part);
    }
    const std::size_t found =
        anchored ? (text.substr(at).starts_with(part) ? at : std::string_view::npos) : text.find(part, at);
    if (found == std::string_view::npos) return false;
    at = found + part.size();
    pattern.remove_prefix(gap + kAnything.size());
    anchored = false;
  }
}

// Where the answer is not what was expected.
void compare(const json& expected, const json& actual, const std::string& at, std::vector<std::string>& differences) {
  if (expected == kAnything) return;
  if (expected.is_object() && actual.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      if (actual.contains(key)) {
        compare(value, actual[key], at + "/" + key, differences);
      } else {
        differences.push_back(at + " lacks " + key);
      }
    }
    return;
  }
  if (expected.is_array() && actual.is_array() && expected.size() == actual.size()) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      compare(expected[i], actual[i], at + "/" + std::to_string(i), differences);
    }
    return;
  }
  const bool same = expected.is_string() && actual.is_string()
                        ? text_fits(expected.get<std::string>(), actual.get<std::string>())
                        : expected == actual;
  if (!same) differences.push_back(at + " is " + actual.dump() + ", expected " + expected.dump());
}

json request_schema() {
  json schema = load_schema("enhanced_request_schema");
  // As the worker is configured.
  for (const char* side : {"/dimensions/properties/width", "/dimensions/properties/height", "/width", "/height"}) {
    schema[json::json_pointer("/$defs/generation/properties" + std::string(side) + "/minimum")] = kLeastSide;
  }
  return schema;
}

class Transcript : public RealWorker, public testing::WithParamInterface<std::string> {};

TEST_P(Transcript, IsAnsweredAsItSays) {
  std::ifstream file(transcripts() / (GetParam() + ".json"));
  const json transcript = json::parse(file);
  put_model("tiny-base", "checkpoints/cyberrealisticPony_v125");
  put_model("tiny-refiner", "checkpoints/tiny-refiner");
  put_model("tiny-controlnet-a", "controlnets/canny-xl");
  put_model("tiny-vae-alt", "vaes/tiny-vae-alt");
  put_model("loras/kohya.safetensors", "loras/kohya.safetensors");
  put_model("embeddings/sks-cat.safetensors", "embeddings/sks-cat.safetensors");
  put_model("upscalers/realesrgan-x2-new-keys.safetensors", "upscalers/realesrgan-x2.safetensors");
  put_model("upscalers/realesrgan-x4-new-keys.safetensors", "loras/mislabelled.safetensors");

  const json& request = transcript["request"];
  const std::vector<std::string> faults = schema_errors(request_schema(), request);
  const bool valid = transcript.value("request_is_valid", true);
  EXPECT_EQ(faults.empty(), valid) << testing::PrintToString(faults);

  test::WorkerProgram worker = start();
  ASSERT_TRUE(worker.send_line(request.dump()));
  const json answer = worker.response();
  ASSERT_FALSE(answer.is_null()) << "the worker is gone";
  std::vector<std::string> differences;
  compare(transcript["response"], answer, "", differences);
  EXPECT_THAT(differences, IsEmpty()) << transcript["about"];

  const json pictures = transcript.value("pictures", json::array());
  for (std::size_t i = 0; answer["success"] == true && i < pictures.size(); ++i) {
    const fs::path reference = test::vectors_dir() / "pipelines" / pictures[i].get<std::string>();
    const fs::path made = answer["data"]["generated_images"][i]["path"].get<std::string>();
    EXPECT_LE(engine::max_difference(picture_at(made), picture_at(reference)), kTolerance) << made;
  }
  EXPECT_EQ(describe(worker.finish()), "exit status 0");
}

INSTANTIATE_TEST_SUITE_P(Specification, Transcript, testing::ValuesIn(names()), [](const auto& instance) {
  std::string name = instance.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace darkroom
