// What PEFT knows of an adapter beside its tensors: by what they are scaled.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/error.h"
#include "engine/weights/safetensors.h"

namespace darkroom::engine {

class AdapterMetadata {
 public:
  // diffusers writes it as JSON into the file's metadata, as {"unet.r": 8, "unet.lora_alpha": 16,
  // "unet.alpha_pattern": {"mid_block.attentions.0.proj_in": 4}, …}. Without that key in `metadata`, nothing is said of
  // any layer. Error corrupt_data where it cannot be read.
  static Result<AdapterMetadata> parse(const TensorMetadata& metadata, const std::string& file);

  // One network's, as in adapter_config.json: {"r": 8, "lora_alpha": 16, …}. `place` is what messages call it.
  // Error corrupt_data naming the key.
  Result<void> add(const std::string& network, const nlohmann::json& config, const std::string& place);

  // What alpha is to mean for a layer (its name as in the file, "unet.mid_block.attentions.0.proj_in") of this rank.
  std::optional<float> alpha(const std::string& layer, std::int64_t rank) const;

 private:
  struct Network {
    std::optional<float> alpha;
    bool divides_by_root = false;         // rsLoRA: scale = alpha/√rank
    std::map<std::string, float> alphas;  // of layers whose name ends so
  };
  std::map<std::string, Network> networks_;  // "unet"
};

}  // namespace darkroom::engine
