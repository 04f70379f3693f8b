// What PEFT knows of an adapter beside its tensors: diffusers writes it as JSON into the file's metadata, as
// {"unet.r": 8, "unet.lora_alpha": 16, "unet.alpha_pattern": {"mid_block.attentions.0.proj_in": 4}, …}.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/weights/safetensors.h"

namespace darkroom::engine {

class AdapterMetadata {
 public:
  // Without that key in `metadata`, nothing is said of any layer. Error corrupt_data where it cannot be read.
  static Result<AdapterMetadata> parse(const TensorMetadata& metadata, const std::string& file);

  // What alpha is to mean for a layer (its name as in the file) of this rank.
  std::optional<float> alpha(const std::string& layer, std::int64_t rank) const;

 private:
  struct Component {
    std::optional<float> alpha;
    bool divides_by_root = false;         // rsLoRA: scale = alpha/√rank
    std::map<std::string, float> alphas;  // of layers whose name ends so
  };
  std::map<std::string, Component> components_;  // "unet"
};

}  // namespace darkroom::engine
