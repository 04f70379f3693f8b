#include "engine/weights/lora_metadata.h"

#include <cmath>
#include <string_view>

#include <nlohmann/json.hpp>

#include "engine/weights/json_file.h"

namespace darkroom::engine {

Result<AdapterMetadata> AdapterMetadata::parse(const TensorMetadata& metadata, const std::string& file) {
  constexpr std::string_view kKey = "lora_adapter_metadata";
  AdapterMetadata parsed;
  const auto text = metadata.find(kKey);
  if (text == metadata.end()) return parsed;
  const std::string place = fmt::format("{}: {}", file, kKey);
  const auto json = parse_json_object(text->second, place);
  if (!json) return tl::unexpected(json.error());
  std::map<std::string, nlohmann::json> networks;
  for (const auto& [key, value] : json->items()) {
    const std::size_t dot = key.find('.');
    if (dot != std::string::npos) networks[key.substr(0, dot)][key.substr(dot + 1)] = value;
  }
  for (const auto& [network, config] : networks) {
    if (auto added = parsed.add(network, config, fmt::format("{}: {}", place, network)); !added) {
      return tl::unexpected(std::move(added.error()));
    }
  }
  return parsed;
}

Result<void> AdapterMetadata::add(const std::string& network, const nlohmann::json& config, const std::string& place) {
  const auto wrong = [&](const std::string& key, const nlohmann::json& value, std::string_view expected) {
    return fail(ErrorCode::corrupt_data, "{}: '{}' is {}, expected {}", place, key, value.dump(), expected);
  };
  const auto positive = [](const nlohmann::json& value) { return value.is_number() && value > 0; };
  Network& known = networks_[network];
  for (const auto& [key, value] : config.items()) {
    if (value.is_null()) continue;
    if (key == "lora_alpha" || key == "alpha") {  // LoRA's; LoHa's and LoKr's
      if (!value.is_number()) return wrong(key, value, "a number");
      known.alpha.usual = value.get<float>();
    } else if (key == "r") {
      if (!positive(value)) return wrong(key, value, "a number above 0");
      known.rank.usual = value.get<float>();
    } else if (key == "use_rslora") {
      if (!value.is_boolean()) return wrong(key, value, "true or false");
      known.divides_by_root = value.get<bool>();
    } else if (key == "alpha_pattern" || key == "rank_pattern") {
      const bool is_rank = key == "rank_pattern";
      if (!value.is_object()) return wrong(key, value, "an object");
      for (const auto& [layer, number] : value.items()) {
        if (!number.is_number()) return wrong(key, value, "an object of numbers");
        if (is_rank && !positive(number)) return wrong(key, value, "an object of numbers above 0");
        (is_rank ? known.rank : known.alpha).patterns[layer] = number.get<float>();
      }
    }
  }
  return {};
}

std::optional<float> AdapterMetadata::Number::of(const std::string& layer) const {
  std::optional<float> number = usual;
  for (const auto& [ending, own] : patterns) {
    if (layer.ends_with("." + ending)) number = own;
  }
  return number;
}

std::optional<float> AdapterMetadata::scale(const std::string& layer, std::optional<std::int64_t> rank) const {
  const auto found = networks_.find(layer.substr(0, layer.find('.')));
  if (found == networks_.end()) return std::nullopt;
  const Network& network = found->second;
  const std::optional<float> alpha = network.alpha.of(layer);
  const std::optional<float> divisor = rank ? static_cast<float>(*rank) : network.rank.of(layer);
  if (!alpha || !divisor || *divisor <= 0.0F) return std::nullopt;
  return *alpha / (network.divides_by_root ? std::sqrt(*divisor) : *divisor);
}

}  // namespace darkroom::engine
