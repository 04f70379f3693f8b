// EnhancedSDXLResponse, and what POST /api/sdxl/validate answers.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "base/json_reader.h"
#include "protocol/messages.h"
#include "spec/generation_codec.h"

namespace darkroom {

struct SdxlPicture {
  GeneratedImage image;
  std::string url;     // where it can be had; "": nowhere
  std::string base64;  // the file itself; "": not asked for
};

struct SdxlOutcome {
  std::string request_id;
  std::vector<SdxlPicture> pictures;
  ProcessingMetrics metrics;
  std::vector<std::string> tags;
  std::vector<std::string> warnings;
  double execution_time = 0.0;  // seconds
  double timestamp = 0.0;       // seconds since 1970
};

nlohmann::json sdxl_answer(const SdxlOutcome& outcome);

// "Request validation failed: …, …", as the specification's service puts it, with each complaint and its pointer.
nlohmann::json sdxl_validation_failure(const std::string& request_id, const std::vector<Complaint>& complaints,
                                       double timestamp);

// "Processing failed: …".
nlohmann::json sdxl_failure(const std::string& request_id, const Error& error, const std::vector<std::string>& warnings,
                            double timestamp);

// Whether the request would be admitted, and what would be made of it: the settled values, the worker type, the tags.
nlohmann::json sdxl_validate_answer(const nlohmann::json& body, const Limits& limits);

}  // namespace darkroom
