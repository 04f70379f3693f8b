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

  // What a layer's change is scaled by (its name as in the file, "unet.mid_block.attentions.0.proj_in"): alpha/rank.
  // rank: of its tensors, or nothing where they need not have one (LoKr), which leaves what is said of it here.
  std::optional<float> scale(const std::string& layer, std::optional<std::int64_t> rank) const;

 private:
  struct Number {
    std::optional<float> usual;
    std::map<std::string, float> patterns;  // of layers whose name ends so

    std::optional<float> of(const std::string& layer) const;
  };
  struct Network {
    Number alpha;
    Number rank;
    bool divides_by_root = false;  // rsLoRA: scale = alpha/√rank
  };
  std::map<std::string, Network> networks_;  // "unet"
};

}  // namespace darkroom::engine
