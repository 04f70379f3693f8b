// OpenAI's images API, inwards: /v1/images/generations, edits and variations, as JSON or as a form. Unknown parameters
// are ignored; what would show and cannot be done is refused.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "protocol/messages.h"
#include "service/api/model_catalog.h"
#include "spec/generation_codec.h"
#include "spec/limits.h"

namespace darkroom {

struct OpenaiContext {
  const Limits& limits;
  const ModelCatalog& models;
  std::string default_model;   // a model's file; "": the first of the catalog
  bool strict_models = false;  // whether an unknown model is an error; else the default one is taken, with a warning
};

// One part of a multipart form.
struct FormPart {
  std::string name;
  std::string filename;  // "": a text
  std::string type;
  std::string bytes;
};

struct OpenaiForm {
  nlohmann::json fields = nlohmann::json::object();  // texts; name[] and name[0] are lists
  std::vector<std::string> images;                   // files
  std::vector<std::string> masks;
};
OpenaiForm openai_form(std::span<const FormPart> parts);

enum class OpenaiKind : std::uint8_t { generations, edits, variations };

struct OpenaiRequest {
  OpenaiKind kind = OpenaiKind::generations;
  std::vector<GenerationRequest> jobs;  // one after the other; the seeds go on
  bool as_url = false;
  bool stream = false;
  int partial_images = 0;
  std::string prompt;      // as it came
  std::string size;        // "1024x1024"
  std::string quality;     // "low", "medium" or "high"
  std::string format;      // "png", "jpeg" or "webp"
  std::string background;  // "auto" or "opaque"
  std::vector<std::string> warnings;
  nlohmann::json echo;  // the fields, without pictures
};

// A refusal's complaints point to the parameters.
tl::expected<OpenaiRequest, Refusal> decode_openai(OpenaiKind kind, const OpenaiForm& form,
                                                   const OpenaiContext& context);

// A text as webui's syntax means it literally: no brackets that weigh, no BREAK. Long texts are not cut then.
std::string literal_prompt(std::string_view text);

}  // namespace darkroom
