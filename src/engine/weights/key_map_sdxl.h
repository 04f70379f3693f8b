// SDXL's original layout (Stability's generative-models, "single file") and older diffusers names,
// mapped to the names of diffusers and transformers that the models load by. Twin: diffusers
// loaders/single_file_utils.py. What a config.json would say is inferred from the shapes.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/weights/model_config.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

template <class Config>
struct MappedPart {
  Config config;
  KeyMappedSource::Entries entries;  // name there by diffusers name
};

// `prefix` is where the part lies: "model.diffusion_model." and so on, with the final dot.
// Errors: corrupt_data (a tensor that the layout needs is missing), unsupported (an architecture the engine has not).
Result<MappedPart<UnetConfig>> map_original_unet(const WeightSource& source, std::string_view prefix);
// Of a ControlNet without a config: how wide each of the six numbers beside the pooled text is embedded. False where
// that does not come out even.
bool set_time_id_channels(UnetConfig& config);
// lllyasviel's ControlNet: "control_model." or no prefix.
Result<MappedPart<ControlNetConfig>> map_original_controlnet(const WeightSource& source, std::string_view prefix);
Result<MappedPart<VaeConfig>> map_original_vae(const WeightSource& source, std::string_view prefix);
// Open CLIP: fused in_proj, text_projection stored transposed.
Result<MappedPart<ClipTextConfig>> map_openclip_text(const WeightSource& source, std::string_view prefix);
// transformers' CLIPTextModel, "text_model." included or not in the prefix or the names.
Result<MappedPart<ClipTextConfig>> map_clip_text(const WeightSource& source, std::string_view prefix);
// diffusers' AutoencoderKL, with the attention names of before and after 0.18.
Result<MappedPart<VaeConfig>> map_diffusers_vae(const WeightSource& source);

// The way back: what tensors that have diffusers' and transformers' names are called in the original layout, as far as
// they have a place there. Three names of a text encoder (query, key, value) have one "….attn.in_proj.weight" there.
using OriginalNames = std::map<std::string, std::string>;
OriginalNames original_unet_names(const WeightSource& unet);
OriginalNames original_openclip_names(const WeightSource& text_encoder);

}  // namespace darkroom::engine
