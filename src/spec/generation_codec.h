// The wire form of a generation: the specification's `data` object of an inference_request, extended with a key for
// every field of GenerationSpec; its old flat form is understood too. Written out in api/enhanced_request_schema.json.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "base/json_reader.h"
#include "spec/generation_spec.h"
#include "spec/limits.h"

namespace darkroom {

// A decoded `data` object. The seed is fixed: −1 has become a random one.
struct GenerationRequest {
  GenerationSpec spec;
  JobOptions job;
  std::vector<std::string> warnings;  // what will be done otherwise than asked
};

tl::expected<GenerationRequest, std::vector<Complaint>> decode_generation(const nlohmann::json& data,
                                                                          const Limits& limits);

nlohmann::json encode_generation(const GenerationSpec& spec, const JobOptions& job);

}  // namespace darkroom
