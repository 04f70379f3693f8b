// FreeU (Si et al. 2023): in the first two levels of the UNet's expanding half, half of the backbone's channels are
// strengthened and the skip connection's lowest frequencies weakened. diffusers' apply_freeu.
#pragma once

#include "engine/backend/ops.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// level: of the up block, 0 the lowest resolution; nothing happens from 2 on.
// hidden [N,h,w,C] f32, skip [N,h,w,D] f32: each replaced by what takes its place.
void apply_freeu(const FreeU& freeu, std::size_t level, Tensor& hidden, Tensor& skip);

}  // namespace darkroom::engine
