// An SDXL model as it lies on the disk: a diffusers folder or one file in the original layout. Both give the same
// parts, under the names of diffusers and transformers; anything that is not SDXL is refused by its name.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"
#include "engine/weights/inspect.h"
#include "engine/weights/model_config.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

template <class Config>
struct ModelPart {
  Config config;
  WeightSourcePtr weights;
};

struct Checkpoint {
  std::filesystem::path path;
  FileFormat format = FileFormat::safetensors;
  std::uint64_t bytes = 0;  // of weights on disk
  ModelInfo info;

  ModelPart<UnetConfig> unet;
  std::optional<ModelPart<VaeConfig>> vae;                // a single file may come without
  std::optional<ModelPart<ClipTextConfig>> text_encoder;  // CLIP-L; the refiner has none
  ModelPart<ClipTextConfig> text_encoder_2;               // OpenCLIP bigG, with projection

  // The scheduler's config as JSON: the folder's own text, or what diffusers gives a single file.
  std::string scheduler_config;
  // Folders with vocab.json and merges.txt, where the model brings its own.
  std::optional<std::filesystem::path> tokenizer;
  std::optional<std::filesystem::path> tokenizer_2;
};

// `variant` chooses among a folder's weight files ("fp16"); empty: plain, then fp16, then bf16, then the only one.
// Errors: not_found, corrupt_data, unsupported ("FILE is a Stable Diffusion 1.x checkpoint; …").
Result<Checkpoint> open_checkpoint(const std::filesystem::path& path, std::string_view variant = {});

// A VAE alone: a diffusers folder, or a file with either layout's names (a whole checkpoint's VAE too).
Result<ModelPart<VaeConfig>> open_vae(const std::filesystem::path& path);

// A ControlNet: a diffusers folder, or a file with diffusers' names, whose config is then inferred.
Result<ModelPart<ControlNetConfig>> open_controlnet(const std::filesystem::path& path);

// An upscaler's file: RRDBNet in any of its layouts, or SRVGGNetCompact.
Result<ModelPart<UpscalerConfig>> open_upscaler(const std::filesystem::path& path);

}  // namespace darkroom::engine
