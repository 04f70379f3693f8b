// The autoencoder over pictures that are too large for one pass.
//
// compat(diffusers): a tile is normalised with its own mean and deviation, not the picture's, and attends to itself
// alone, so a tiled picture is not the untiled one anywhere: nearly the same inside of a tile, and the tiles' slightly
// different colours go over into one another where they overlap, by a quarter of a side as in AutoencoderKL's tiling.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/pipeline/autoencoder.h"
#include "engine/pipeline/latents.h"
#include "engine/pipeline/tiles.h"

namespace darkroom::engine {

inline constexpr std::int64_t kVaeWidth = 128;  // channels of SDXL's VAE at full size

// Memory of decoding (encoding takes less) height × width latents by a VAE so wide, in bytes.
std::uint64_t decoder_bytes(int height, int width, DType type, std::int64_t channels = kVaeWidth);

// The side of the largest tile, in latents, that is decoded in `bytes`; 0: the whole is.
int vae_tile_within(std::uint64_t bytes, int height, int width, DType type);

// The side of tile that a job works in: what it asks for, or what this machine's memory demands (activation_budget()).
int vae_tile(int asked, int height, int width, DType type);

// One picture, its size in `shape`. tile: the side in latents, 0 or at least kMinVaeTile; 0: the whole at once. Edges
// meet as vae.network.wrap says, also where they are in different tiles.
// Raw latents (scaling undone) [h, w, C] → [8h, 8w, 3], about −1 to 1.
std::vector<float> decode_tiled(Autoencoder& vae, std::span<const float> latents, const LatentShape& shape, int tile,
                                const CancelToken& cancel);
// [8h, 8w, 3] in [−1, 1] → [h, w, 2C]: the mean's channels, then the log variance's, not yet clamped.
std::vector<float> encode_tiled(Autoencoder& vae, std::span<const float> picture, const LatentShape& shape, int tile,
                                const CancelToken& cancel);

}  // namespace darkroom::engine
