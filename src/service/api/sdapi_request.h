// AUTOMATIC1111's API, inwards: bodies of /sdapi/v1/txt2img, img2img and the extras. Defaults are webui's, but for the
// picture's size, which is SDXL's. What cannot be done and would show is an error; what webui would pass over is a
// warning.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "protocol/messages.h"
#include "service/api/model_catalog.h"
#include "spec/generation_codec.h"
#include "spec/limits.h"

namespace darkroom {

// The part of webui's options that has a meaning here. Each caller has his own.
struct SdapiOptions {
  std::string checkpoint;         // a model's file; "": the service's default
  std::string vae = "Automatic";  // or "None", or a model's title
  int clip_stop_at_last_layers = 1;
  std::string refiner;  // "": none

  bool operator==(const SdapiOptions&) const = default;
};

struct SdapiContext {
  const Limits& limits;
  const ModelCatalog& models;
  const SdapiOptions& options;
  std::string default_model;  // a model's file; "": the first of the catalog
};

enum class SdapiKind : std::uint8_t { txt2img, img2img };

struct SdapiRequest {
  // To be done one after the other; their pictures are the answer's, in this order. The seeds go on.
  std::vector<GenerationRequest> jobs;
  std::string prompt;  // as it came
  std::string negative_prompt;
  bool send_images = true;
  std::string sampler_name;  // as webui writes it
  std::string schedule;
  nlohmann::json echo;  // the body without pictures and secrets: `parameters`
};

// A refusal's error is not_found for a sampler or a model that is not there.
tl::expected<SdapiRequest, Refusal> decode_sdapi(SdapiKind kind, const nlohmann::json& body,
                                                 const SdapiContext& context);

// What is done to pictures as they are: enlarging, control pictures.
struct SdapiExtras {
  std::vector<GenerationRequest> jobs;  // one a picture; none where nothing is to be done
  std::vector<ImageSource> pictures;    // as they came
};
// extra-single-image and extra-batch-images.
enum class SdapiExtrasKind : std::uint8_t { single, batch };
tl::expected<SdapiExtras, Refusal> decode_sdapi_extras(SdapiExtrasKind kind, const nlohmann::json& body,
                                                       const SdapiContext& context);

// /controlnet/detect: each picture through a preprocessor.
tl::expected<SdapiExtras, Refusal> decode_sdapi_detect(const nlohmann::json& body, const SdapiContext& context);

// What was found, or the first checkpoint's file; error not_found where there is none.
Result<std::string> default_checkpoint(const SdapiContext& context);

}  // namespace darkroom
