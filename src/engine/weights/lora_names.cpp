#include "engine/weights/lora_names.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "engine/weights/key_map_sdxl.h"

namespace darkroom::engine {
namespace {

using Ending = std::pair<std::string_view, AdapterRole>;

// A name that ends in one of these is the layer's before it. Where one ends in another, the longer one is first.
constexpr std::array kEndings{
    Ending{".lora_linear_layer.up.weight", AdapterRole::up},
    Ending{".lora_linear_layer.down.weight", AdapterRole::down},
    Ending{".lora_linear_layer.alpha", AdapterRole::alpha},
    Ending{".lora.up.weight", AdapterRole::up},
    Ending{".lora.down.weight", AdapterRole::down},
    Ending{".lora.alpha", AdapterRole::alpha},
    Ending{"_lora.up.weight", AdapterRole::up},
    Ending{"_lora.down.weight", AdapterRole::down},
    Ending{"_lora.alpha", AdapterRole::alpha},
    Ending{".lora_up.weight", AdapterRole::up},
    Ending{".lora_down.weight", AdapterRole::down},
    Ending{".lora_mid.weight", AdapterRole::mid},
    Ending{".alpha", AdapterRole::alpha},
    Ending{".dora_scale", AdapterRole::dora_scale},
    Ending{".hada_w1_a", AdapterRole::hada_w1_a},
    Ending{".hada_w1_b", AdapterRole::hada_w1_b},
    Ending{".hada_w2_a", AdapterRole::hada_w2_a},
    Ending{".hada_w2_b", AdapterRole::hada_w2_b},
    Ending{".hada_t1", AdapterRole::hada_t1},
    Ending{".hada_t2", AdapterRole::hada_t2},
    Ending{".lokr_w1", AdapterRole::lokr_w1},
    Ending{".lokr_w1_a", AdapterRole::lokr_w1_a},
    Ending{".lokr_w1_b", AdapterRole::lokr_w1_b},
    Ending{".lokr_w2", AdapterRole::lokr_w2},
    Ending{".lokr_w2_a", AdapterRole::lokr_w2_a},
    Ending{".lokr_w2_b", AdapterRole::lokr_w2_b},
    Ending{".lokr_t2", AdapterRole::lokr_t2},
    Ending{".a1.weight", AdapterRole::glora_a1},
    Ending{".a2.weight", AdapterRole::glora_a2},
    Ending{".b1.weight", AdapterRole::glora_b1},
    Ending{".b2.weight", AdapterRole::glora_b2},
    Ending{".oft_blocks", AdapterRole::oft_blocks},
    Ending{".rescale", AdapterRole::rescale},
    Ending{".on_input", AdapterRole::on_input},
    Ending{".diff", AdapterRole::difference},
    Ending{".diff_b", AdapterRole::bias_difference},
    Ending{".w_norm", AdapterRole::difference},
    Ending{".b_norm", AdapterRole::bias_difference},
};

// PEFT's: the name of an adapter may stand before "weight", as in ".lora_A.default.weight".
constexpr std::array kPeft{
    std::pair{std::string_view(".lora_A."), std::string_view("weight")},
    std::pair{std::string_view(".lora_B."), std::string_view("weight")},
    std::pair{std::string_view(".lora_B."), std::string_view("bias")},
};
constexpr std::array kPeftRoles{AdapterRole::down, AdapterRole::up, AdapterRole::up_bias};
constexpr std::string_view kMagnitude = ".lora_magnitude_vector";

// The rest after a PEFT word is `last`, or an adapter's name and `last`.
bool is_last(std::string_view rest, std::string_view last) {
  if (rest == last) return true;
  const auto dot = rest.find('.');
  return dot != std::string_view::npos && dot > 0 && rest.substr(dot + 1) == last;
}

std::optional<AdapterKey> split_peft_key(std::string_view key) {
  for (std::size_t i = 0; i < kPeft.size(); ++i) {
    const auto& [word, last] = kPeft[i];
    const auto at = key.rfind(word);
    if (at == std::string_view::npos || at == 0 || !is_last(key.substr(at + word.size()), last)) continue;
    return AdapterKey{std::string(key.substr(0, at)), kPeftRoles[i]};
  }
  const auto at = key.rfind(kMagnitude);
  if (at == std::string_view::npos || at == 0) return std::nullopt;
  const std::string_view rest = key.substr(at + kMagnitude.size());
  const bool alone = rest.empty() || (rest.starts_with('.') && rest.find('.', 1) == std::string_view::npos);
  if (!alone && !(rest.starts_with('.') && is_last(rest.substr(1), "weight"))) return std::nullopt;
  return AdapterKey{std::string(key.substr(0, at)), AdapterRole::dora_scale};
}

std::string flat(std::string name) {
  std::ranges::replace(name, '.', '_');
  return name;
}

// What stands before a layer's name, and how the name is written after it. Where one begins another, the longer one is
// first.
enum class Style : std::uint8_t { dotted, flattened };
struct Prefix {
  std::string_view text;
  AdapterTarget target;
  Style style;
};
constexpr std::array kPrefixes{
    Prefix{"lora_unet_", AdapterTarget::unet, Style::flattened},
    Prefix{"oft_unet_", AdapterTarget::unet, Style::flattened},
    Prefix{"lycoris_", AdapterTarget::unet, Style::flattened},
    Prefix{"lora_te1_", AdapterTarget::text_encoder, Style::flattened},
    Prefix{"lora_te2_", AdapterTarget::text_encoder_2, Style::flattened},
    Prefix{"unet.", AdapterTarget::unet, Style::dotted},
    Prefix{"model.diffusion_model.", AdapterTarget::unet, Style::dotted},
    Prefix{"diffusion_model.", AdapterTarget::unet, Style::dotted},
    Prefix{"text_encoder_2.", AdapterTarget::text_encoder_2, Style::dotted},
    Prefix{"text_encoder.", AdapterTarget::text_encoder, Style::dotted},
    Prefix{"text_encoders.clip_l.transformer.", AdapterTarget::text_encoder, Style::dotted},
    Prefix{"text_encoders.clip_g.transformer.", AdapterTarget::text_encoder_2, Style::dotted},
    Prefix{"clip_l.transformer.", AdapterTarget::text_encoder, Style::dotted},
    Prefix{"clip_g.transformer.", AdapterTarget::text_encoder_2, Style::dotted},
    Prefix{"conditioner.embedders.0.transformer.", AdapterTarget::text_encoder, Style::dotted},
    Prefix{"conditioner.embedders.1.model.", AdapterTarget::text_encoder_2, Style::dotted},
    Prefix{"", AdapterTarget::unet, Style::dotted},
};
constexpr std::string_view kPeftModel = "base_model.model.";

}  // namespace

std::optional<AdapterKey> split_adapter_key(std::string_view key) {
  std::optional<AdapterKey> split = split_peft_key(key);
  for (const auto& [ending, role] : kEndings) {
    if (split) break;
    if (key.size() > ending.size() && key.ends_with(ending)) {
      split = AdapterKey{std::string(key.substr(0, key.size() - ending.size())), role};
    }
  }
  if (!split) return std::nullopt;
  // diffusers before 0.18 had its LoRA layers in an attention's processor.
  constexpr std::string_view kProcessor = ".processor";
  if (const auto at = split->layer.find(".processor."); at != std::string::npos) {
    split->layer.erase(at, kProcessor.size());
  }
  return split;
}

LayerNames::LayerNames(AdapterBases bases) : bases_(std::move(bases)) {
  for (const auto& [target, base] : bases_) {
    std::set<std::string> layers;
    for (const std::string& name : base->names()) {
      // The tables of tokens and positions are not layers.
      if (!name.starts_with("text_model.embeddings.")) layers.insert(name.substr(0, name.rfind('.')));
    }
    for (const std::string& layer : layers) {
      add(target, layer, {layer});
      add_old_attention(target, layer);
    }
    if (target == AdapterTarget::unet) add_originals(target, original_unet_names(*base));
    if (target == AdapterTarget::text_encoder_2) add_originals(target, original_openclip_names(*base));
  }
}

void LayerNames::add(AdapterTarget target, const std::string& name, std::vector<std::string> layers) {
  Names& names = names_[target];
  names.flattened.try_emplace(flat(name), layers);
  names.dotted.try_emplace(name, std::move(layers));
}

void LayerNames::add_originals(AdapterTarget target, const std::map<std::string, std::string>& originals) {
  std::map<std::string, std::vector<std::string>> layers;  // by the original's name
  for (const auto& [name, original] : originals) {
    if (!name.ends_with(".weight")) continue;
    layers[original.substr(0, original.rfind('.'))].push_back(name.substr(0, name.rfind('.')));
  }
  for (auto& [original, same] : layers) {
    if (same.size() == 3) {  // sorted they are k, q, v: fused they lie q, k, v
      std::swap(same[0], same[1]);
      add(target, original + "_weight", same);
    }
    add(target, original, std::move(same));
  }
}

// Names that diffusers' attention processors had: to_out for to_out.0, and in text encoders to_q for q_proj.
void LayerNames::add_old_attention(AdapterTarget target, const std::string& layer) {
  const std::size_t dot = layer.rfind('.');
  if (dot == std::string::npos) return;
  if (target == AdapterTarget::unet) {
    if (layer.ends_with(".to_out.0")) add(target, layer.substr(0, dot), {layer});
    return;
  }
  const std::string block = layer.substr(0, dot + 1);
  const std::string_view last = std::string_view(layer).substr(dot + 1);
  for (const auto& [old_name, name] :
       {std::pair("to_q", "q_proj"), {"to_k", "k_proj"}, {"to_v", "v_proj"}, {"to_out", "out_proj"}}) {
    if (last == name) add(target, block + old_name, {layer});
  }
}

const WeightSource* LayerNames::find_base(AdapterTarget target) const {
  const auto found = bases_.find(target);
  return found == bases_.end() ? nullptr : found->second.get();
}

std::optional<LayerPlace> LayerNames::find(std::string_view name) const {
  if (name.starts_with(kPeftModel)) name.remove_prefix(kPeftModel.size());
  for (const Prefix& prefix : kPrefixes) {
    if (!name.starts_with(prefix.text)) continue;
    const auto names = names_.find(prefix.target);
    if (names == names_.end()) continue;
    std::string_view rest = name.substr(prefix.text.size());
    if (rest.starts_with(kPeftModel)) rest.remove_prefix(kPeftModel.size());
    const Layers& layers = prefix.style == Style::dotted ? names->second.dotted : names->second.flattened;
    const auto found = layers.find(rest);
    if (found != layers.end()) return LayerPlace{prefix.target, found->second};
  }
  return std::nullopt;
}

}  // namespace darkroom::engine
