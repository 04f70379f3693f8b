// Opens what holds weights, whatever its form, as a WeightSource.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

// Whether it is there; what cannot be looked at is not.
bool is_file(const std::filesystem::path& path);

enum class FileFormat : std::uint8_t { safetensors, pickle, diffusers_folder, peft_folder };

struct WeightFile {
  std::shared_ptr<const TensorMap> weights;
  FileFormat format = FileFormat::safetensors;
  TensorMetadata metadata;  // of a safetensors file
  std::uint64_t bytes = 0;  // on disk, all shards
};

// A weight file, safetensors or torch.save()'s, told by its content; or the index of a sharded one
// (*.safetensors.index*.json).
Result<WeightFile> open_weight_file(const std::filesystem::path& path);

// The weights of a diffusers or transformers component folder: `stem` is "diffusion_pytorch_model" or "model".
// Without a variant the plain file is preferred, then fp16, then bf16, then the only other one.
Result<WeightFile> open_weight_folder(const std::filesystem::path& folder, std::string_view stem,
                                      std::string_view variant = {});

}  // namespace darkroom::engine
