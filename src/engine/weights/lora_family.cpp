#include "engine/weights/lora_family.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "engine/weights/lora_names.h"

namespace darkroom::engine {
namespace {

bool has(std::string_view name, std::string_view part) { return name.find(part) != std::string_view::npos; }

// A transformer in a UNet's place, or nothing of the kind.
Family transformer_family(std::string_view name) {
  for (const std::string_view part : {"double_blocks", "single_blocks", "single_transformer_blocks"}) {
    if (has(name, part)) return Family::flux;
  }
  if (has(name, "joint_blocks") || name.starts_with("transformer.transformer_blocks.") ||
      name.starts_with("lora_transformer_transformer_blocks_")) {
    return Family::sd3;
  }
  return Family::unknown;
}

// The width of the text that a cross attention reads, out of the tensor that meets it; 0 for other tensors.
std::int64_t text_width(const WeightSource& file, const std::string& name, const AdapterKey& key) {
  const bool reads_text = has(key.layer, "attn2.to_k") || has(key.layer, "attn2.to_v") ||
                          has(key.layer, "attn2_to_k") || has(key.layer, "attn2_to_v");
  const bool meets =
      key.role == AdapterRole::down || key.role == AdapterRole::hada_w1_b || key.role == AdapterRole::difference;
  const auto info = file.info(name);
  return reads_text && meets && info && info->shape.rank() >= 2 ? info->shape[1] : 0;
}

Family family_of_width(std::int64_t width) {
  switch (width) {
    case 768:
      return Family::sd1;
    case 1024:
      return Family::sd2;
    case 2048:
      return Family::sdxl;
    default:
      return Family::unknown;
  }
}

}  // namespace

Family family_of_lora(const WeightSource& file) {
  Family by_name = Family::unknown;
  for (const std::string& name : file.names()) {
    if (const Family family = transformer_family(name); family != Family::unknown) return family;
    const auto key = split_adapter_key(name);
    if (!key) continue;
    if (const Family family = family_of_width(text_width(file, name, *key)); family != Family::unknown) return family;
    const bool one_encoder = name.starts_with("lora_te_");
    const auto info = file.info(name);
    if (one_encoder && key->role == AdapterRole::down && info->shape.rank() >= 2 && info->shape[1] == 1024) {
      return Family::sd2;
    }
    // Two text encoders, or names of blocks that only one of the families has.
    if (name.starts_with("lora_te2_") || name.starts_with("text_encoder_2.")) by_name = Family::sdxl;
    const bool first_level_attends = has(name, "down_blocks_0_attentions_") || has(name, "down_blocks.0.attentions.") ||
                                     has(name, "input_blocks_1_1_") || has(name, "input_blocks.1.1.");
    if (by_name == Family::unknown && (one_encoder || first_level_attends)) by_name = Family::sd1;
  }
  return by_name;
}

}  // namespace darkroom::engine
