// How much of a picture the autoencoder works on at a time. A tile's side stands for an area: the work goes by bands of
// rows (models/bands.h) of as many pixels as a square tile has, and the picture is the same for every tile but for the
// rounding of sums.
#pragma once

#include <cstdint>

#include "engine/tensor/tensor.h"

namespace darkroom::engine {

inline constexpr int kLatentPixels = 8;  // a latent is that many pixels wide and high

inline constexpr std::int64_t kVaeWidth = 128;  // channels of SDXL's VAE at full size

// Memory of decoding (encoding takes less) height × width latents by a VAE so wide, in bytes. tile: a side in latents;
// 0: the whole at once.
std::uint64_t decoder_bytes(int height, int width, int tile, DType type, std::int64_t channels = kVaeWidth);

// The side of the largest tile with which decoding fits `bytes`, or else the smallest there is; 0: the whole fits.
int vae_tile_within(std::uint64_t bytes, int height, int width, DType type);

// The side of tile that a job works in: what it asks for, or what this machine's memory demands (activation_budget()).
int vae_tile(int asked, int height, int width, DType type);

}  // namespace darkroom::engine
