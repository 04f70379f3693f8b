// What a LoRA is opened from: a file, or the folder that PEFT's save_pretrained() writes.
#pragma once

#include <filesystem>

#include "base/error.h"
#include "engine/weights/lora_metadata.h"
#include "engine/weights/weight_file.h"

namespace darkroom::engine {

struct AdapterFile {
  WeightFile file;
  AdapterMetadata settings;
};

// A folder with an adapter_config.json, or with folders named unet, text_encoder or text_encoder_2 that have one.
bool is_adapter_folder(const std::filesystem::path& path);

// Of a folder, each tensor's name begins with the network that it is for ("unet.base_model.model.mid_block.…"): its
// folder's name, or for a folder by itself the class in adapter_config.json ("auto_mapping": {"base_model_class":
// "CLIPTextModel"}); without one, the UNet. Errors: those of opening the weights, not_found for a folder without an
// adapter, corrupt_data and unsupported naming what in adapter_config.json cannot be.
Result<AdapterFile> open_adapter(const std::filesystem::path& path);

}  // namespace darkroom::engine
