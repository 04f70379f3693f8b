// The names that LoRA files give to layers and their tensors, and where those stand in a model. Trainers have named
// them in every way there is: kohya's (lora_unet_down_blocks_1_…, and the same with the original layout's names),
// diffusers' and PEFT's (unet.down_blocks.1.….lora_A.default.weight), the original layout's own (diffusion_model.…).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/lora_layer.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

// The networks of a model that adapters change.
enum class AdapterTarget : std::uint8_t { unet, text_encoder, text_encoder_2 };

// The weights of a model that an adapter is for, under diffusers' names.
using AdapterBases = std::map<AdapterTarget, WeightSourcePtr>;

// A tensor's name in a file, taken apart.
struct AdapterKey {
  std::string layer;  // "lora_unet_mid_block_attentions_0_proj_in"
  AdapterRole role = AdapterRole::up;
};

// Nothing for what is no tensor of an adapter.
std::optional<AdapterKey> split_adapter_key(std::string_view key);

// The layers of a base that a name stands for: one, or query, key and value of a fused projection, in that order.
struct LayerPlace {
  AdapterTarget target = AdapterTarget::unet;
  std::vector<std::string> layers;  // tensor names without ".weight"
};

// Every name that files give to the layers of one model.
class LayerNames {
 public:
  explicit LayerNames(AdapterBases bases);

  // Nothing for a name that belongs to no layer of the model.
  std::optional<LayerPlace> find(std::string_view name) const;
  const WeightSource& base(AdapterTarget target) const { return *bases_.at(target); }
  // Null where the model lacks the network.
  const WeightSource* find_base(AdapterTarget target) const;

 private:
  using Layers = std::map<std::string, std::vector<std::string>, std::less<>>;  // of the base by a name for them
  struct Names {
    Layers dotted;     // "mid_block.attentions.0.proj_in"
    Layers flattened;  // the same with underscores
  };
  void add(AdapterTarget target, const std::string& name, std::vector<std::string> layers);
  void add_originals(AdapterTarget target, const std::map<std::string, std::string>& originals);
  void add_old_attention(AdapterTarget target, const std::string& layer);

  AdapterBases bases_;
  std::map<AdapterTarget, Names> names_;
};

}  // namespace darkroom::engine
