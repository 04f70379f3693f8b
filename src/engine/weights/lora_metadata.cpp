#include "engine/weights/lora_metadata.h"

#include <cmath>

#include "engine/weights/json_file.h"

namespace darkroom::engine {

Result<AdapterMetadata> AdapterMetadata::parse(const TensorMetadata& metadata, const std::string& file) {
  constexpr std::string_view kKey = "lora_adapter_metadata";
  AdapterMetadata parsed;
  const auto text = metadata.find(kKey);
  if (text == metadata.end()) return parsed;
  const auto json = parse_json_object(text->second, fmt::format("{}: {}", file, kKey));
  if (!json) return tl::unexpected(json.error());
  const auto wrong = [&](const std::string& key, const nlohmann::json& value, std::string_view expected) {
    return fail(ErrorCode::corrupt_data, "{}: {}: '{}' is {}, expected {}", file, kKey, key, value.dump(), expected);
  };
  for (const auto& [key, value] : json->items()) {
    const std::size_t dot = key.find('.');
    if (dot == std::string::npos) continue;
    Component& component = parsed.components_[key.substr(0, dot)];
    const std::string field = key.substr(dot + 1);
    if (field == "lora_alpha") {
      if (!value.is_number()) return wrong(key, value, "a number");
      component.alpha = value.get<float>();
    } else if (field == "use_rslora" && !value.is_null()) {
      if (!value.is_boolean()) return wrong(key, value, "true or false");
      component.divides_by_root = value.get<bool>();
    } else if (field == "alpha_pattern" && !value.is_null()) {
      if (!value.is_object()) return wrong(key, value, "an object");
      for (const auto& [layer, alpha] : value.items()) {
        if (!alpha.is_number()) return wrong(key, value, "an object of numbers");
        component.alphas[layer] = alpha.get<float>();
      }
    }
  }
  return parsed;
}

std::optional<float> AdapterMetadata::alpha(const std::string& layer, std::int64_t rank) const {
  const auto found = components_.find(layer.substr(0, layer.find('.')));
  if (found == components_.end()) return std::nullopt;
  const Component& component = found->second;
  std::optional<float> alpha = component.alpha;
  for (const auto& [ending, own] : component.alphas) {
    if (layer.ends_with("." + ending)) alpha = own;
  }
  if (alpha && component.divides_by_root) *alpha *= std::sqrt(static_cast<float>(rank));
  return alpha;
}

}  // namespace darkroom::engine
