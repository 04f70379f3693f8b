// Writes the models that a manifest describes: every weight a pure function of (seed, tensor name, index), so that a
// model of any size can be made anywhere. Format: tests/reference/VECTORS.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "base/error.h"
#include "engine/tensor/dtype.h"

namespace darkroom::tools {

struct WriteModelOptions {
  engine::DType dtype = engine::DType::f16;  // f16 as the manifest says; or f32, bf16: of the same float16 values
  unsigned threads = 0;                      // 0: one a processor
};

// `out` is the model's folder; for a manifest that is one file in the folder "", `out` may be the file itself
// (a name that ends in .safetensors).
Result<void> write_model(const std::filesystem::path& manifest, const std::filesystem::path& out,
                         const WriteModelOptions& options = {});

// `count` weights from index `first` on, as bits of float16.
void seeded_weights(std::uint64_t key, double scale, double offset, std::uint64_t first, std::span<std::uint16_t> out);
// FNV-1a of "SEED:NAME".
std::uint64_t weight_key(std::uint64_t seed, std::string_view name);

}  // namespace darkroom::tools
