// What a job takes beside the weights.
#pragma once

#include <cstdint>

#include "engine/pipeline/compute_types.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// Memory of a job's activations at their highest, in bytes.
std::uint64_t activation_bytes(const GenerationSpec& spec, const ComputeTypes& types);

}  // namespace darkroom::engine
