// Tells what a model file or folder is from its names and shapes, without touching its data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/tensor/dtype.h"
#include "engine/weights/model_config.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/weight_file.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

enum class FileKind : std::uint8_t {
  checkpoint,
  lora,
  controlnet,
  vae,
  embedding,
  upscaler,
  unet,          // a UNet or transformer alone
  text_encoder,  // a text encoder alone
  unknown,
};
// What the model was made for or from. Where names and shapes do not tell, unknown.
enum class Family : std::uint8_t { sdxl, sd1, sd2, sd3, flux, svd, playground_edm, unknown };

std::string_view to_string(FileKind kind);
std::string_view to_string(FileFormat format);
// As people write it: "Stable Diffusion 1.x".
std::string_view to_string(Family family);

struct Classification {
  FileKind kind = FileKind::unknown;
  Family family = Family::unknown;
  std::optional<ModelKind> model_kind;  // of an SDXL checkpoint or UNet
};

Classification classify(const WeightSource& source);

struct ModelSummary {
  Classification what;
  FileFormat format = FileFormat::safetensors;
  std::uint64_t bytes = 0;                // on disk
  std::map<DType, std::uint64_t> dtypes;  // bytes of each element type
  TensorMetadata metadata;                // of a safetensors file
};

// A folder that is one model, or a part of one: diffusers', or PEFT's of a LoRA.
bool is_model_folder(const std::filesystem::path& path);

// Errors: those of opening it; not_found for a folder that holds no model.
Result<ModelSummary> inspect(const std::filesystem::path& path);

}  // namespace darkroom::engine
