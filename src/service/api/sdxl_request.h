// The specification's EnhancedSDXLRequest and its way to a worker's message: SchemaValidator, WorkerTypeResolver and
// EnhancedRequestTransformer. Field names count without regard to case. Beyond the specification, a request may have
// the worker message's further keys (init_image, hires, tiling, …) at its top; api/enhanced_request_schema.json has
// them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "base/json_reader.h"
#include "protocol/messages.h"
#include "spec/generation_codec.h"
#include "spec/limits.h"

namespace darkroom {

struct SdxlLora {
  std::string model_path;
  double weight = 1.0;
};

struct SdxlControlNet {
  std::string model_path;
  double weight = 1.0;
  std::string conditioning_image;
};

struct SdxlPostProcessing {
  std::string type;  // "Upscale"
  double factor = 2.0;
  std::optional<std::string> model;
};

struct SdxlRequest {
  struct {
    std::optional<std::string> base, refiner, vae;
  } model;
  struct {
    std::optional<std::string> prompt, negative_prompt;
    std::vector<SdxlLora> loras;
    std::vector<SdxlControlNet> controlnets;
  } conditioning;
  struct {
    std::optional<std::string> type;
    std::optional<double> steps, guidance_scale;  // whole numbers are checked with the message
  } scheduler;
  struct {
    std::optional<nlohmann::json> seed;  // a whole number that may need all 64 bits
    std::optional<double> strength;
    std::optional<int> width, height, batch_size;
    std::optional<double> guidance_rescale, pag_scale;
  } hyperparameters;
  struct {
    std::optional<std::string> format, save_path;
    std::optional<int> quality;
    std::optional<int> preview_every;  // steps; beyond the specification
  } output;
  std::vector<SdxlPostProcessing> post_processing;
  nlohmann::json further = nlohmann::json::object();  // keys of the worker's message
};

// Only what is wrong with the JSON itself: types, unknown keys.
tl::expected<SdxlRequest, std::vector<Complaint>> read_sdxl_request(const nlohmann::json& body);

// The specification's ValidateRequest.
std::vector<Complaint> validate_sdxl_request(const SdxlRequest& request, const Limits& limits);

// The specification's DetermineWorkerType: sdxl_worker unless something needs the enhanced one.
WorkerType worker_type_for(const SdxlRequest& request);

// "EulerAncestral" → "EulerAncestralDiscreteScheduler". Beyond the specification's ten, every scheduler's name as users
// write it; what is none gives DPMSolverMultistepScheduler, as the specification says, and false.
std::pair<std::string, bool> map_scheduler_type(std::string_view type);

// "canny", "depth", … by the file's name; "canny" where it says nothing.
std::string infer_controlnet_type(std::string_view model_path);

std::vector<std::string> sdxl_tags(const SdxlRequest& request);

// {"message_type", "request_id", "data"}. Values out of range are brought into it, each with a warning; a service
// validates first, so that only those that the specification does not refuse come here.
nlohmann::json transform_sdxl_request(const SdxlRequest& request, const std::string& request_id, const Limits& limits,
                                      std::vector<std::string>& warnings);

// All of it: what POST /api/sdxl/generate admits. Complaints point into the client's body.
tl::expected<GenerationRequest, std::vector<Complaint>> decode_sdxl_request(const nlohmann::json& body,
                                                                            const Limits& limits);

// The same for POST /v1/jobs, which takes the worker's `data` object and its old flat form too.
tl::expected<GenerationRequest, std::vector<Complaint>> decode_job_request(const nlohmann::json& body,
                                                                           const Limits& limits);

}  // namespace darkroom
