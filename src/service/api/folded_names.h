// Field names without regard to case and underscores: "NegativePrompt" and "negative_prompt" are "negativePrompt".
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/json_reader.h"

namespace darkroom {

// The document with every key, at any depth, that is one of the names but for case and underscores written as there;
// other keys stay. A key that is there twice then is complained about.
nlohmann::json with_folded_names(const nlohmann::json& document, std::span<const std::string_view> names,
                                 std::vector<Complaint>& complaints);

}  // namespace darkroom
