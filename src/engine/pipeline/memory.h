// What a job takes beside the weights.
#pragma once

#include <cstdint>

#include "engine/pipeline/compute_types.h"
#include "engine/pipeline/vae_tiles.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// Channels of a job's networks where they are as large as the picture: what their memory goes by. SDXL's.
struct NetworkWidths {
  std::int64_t unet = 320;  // the widest of the base and the refiner
  std::int64_t vae = kVaeWidth;
};

// Memory of a job's activations at their highest, and of what every job has beside them, in bytes.
std::uint64_t activation_bytes(const GenerationSpec& spec, const ComputeTypes& types, const NetworkWidths& widths);

}  // namespace darkroom::engine
