// The typed configs out of diffusers' and transformers' config.json.
// Errors: corrupt_data (missing, of the wrong type, contradictory), unsupported (a value the engine does not
// implement); both name file, key and value.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "engine/weights/model_config.h"

namespace darkroom::engine {

Result<UnetConfig> parse_unet_config(const nlohmann::json& json, const std::string& file);
Result<ControlNetConfig> parse_controlnet_config(const nlohmann::json& json, const std::string& file);
Result<VaeConfig> parse_vae_config(const nlohmann::json& json, const std::string& file);
// has_projection stays false: the weights tell.
Result<ClipTextConfig> parse_clip_text_config(const nlohmann::json& json, const std::string& file);

}  // namespace darkroom::engine
