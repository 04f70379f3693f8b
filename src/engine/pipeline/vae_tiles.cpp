#include "engine/pipeline/vae_tiles.h"

#include <cmath>

#include "engine/backend/ops.h"

namespace darkroom::engine {
namespace {

// A sixteenth of a side is thrown away and an eighth blended: neighbours overlap by a quarter.
TileShape shape_of(int tile) { return {.side = tile, .margin = tile / 16, .blend = tile / 8}; }

// `network` over one tile, whose edges meet as the tile's do.
template <class Coder>
TilePass pass_of(Autoencoder& vae, const Coder& coder, int cell, int channels) {
  return [&vae, &coder, cell, channels](const Tile& tile) {
    vae.network.wrap = tile.wrap;
    const Tensor x = from_host(vae.network.backend(), tile.input,
                               {1, std::int64_t{tile.height} * cell, std::int64_t{tile.width} * cell, channels});
    return to_host(vae.network.finite("vae", [&] { return coder(x); }));
  };
}

std::vector<float> run(Autoencoder& vae, const TiledPicture& picture, int tile, const TilePass& pass,
                       const CancelToken& cancel) {
  std::vector<float> result = in_tiles(picture, shape_of(tile), pass, nullptr, cancel);
  vae.network.wrap = picture.wrap;
  return result;
}

}  // namespace

std::uint64_t decoder_bytes(int height, int width, DType type, std::int64_t channels) {
  // The last level holds three tensors of twice its channels, as it gets them, and one of its own.
  const auto pixels = static_cast<std::uint64_t>(height) * static_cast<std::uint64_t>(width) *
                      static_cast<std::uint64_t>(kLatentPixels * kLatentPixels);
  return pixels * (type == DType::f32 ? 4 : 2) * 7 * static_cast<std::uint64_t>(channels);
}

int vae_tile_within(std::uint64_t bytes, int height, int width, DType type) {
  if (decoder_bytes(height, width, type) <= bytes) return 0;
  constexpr int kStep = 8;
  int tile = kMinVaeTile;
  while (decoder_bytes(tile + kStep, tile + kStep, type) <= bytes) tile += kStep;
  return tile;
}

int vae_tile(int asked, int height, int width, DType type) {
  return asked != 0 ? asked : vae_tile_within(activation_budget(), height, width, type);
}

std::vector<float> decode_tiled(Autoencoder& vae, std::span<const float> latents, const LatentShape& shape, int tile,
                                const CancelToken& cancel) {
  const TiledPicture picture{.input = latents,
                             .height = shape.height,
                             .width = shape.width,
                             .input_cell = 1,
                             .input_channels = shape.channels,
                             .output_cell = kLatentPixels,
                             .output_channels = static_cast<int>(vae.config.out_channels),
                             .wrap = vae.network.wrap};
  return run(vae, picture, tile, pass_of(vae, vae.decoder, picture.input_cell, picture.input_channels), cancel);
}

std::vector<float> encode_tiled(Autoencoder& vae, std::span<const float> picture, const LatentShape& shape, int tile,
                                const CancelToken& cancel) {
  const TiledPicture tiled{.input = picture,
                           .height = shape.height,
                           .width = shape.width,
                           .input_cell = kLatentPixels,
                           .input_channels = static_cast<int>(vae.config.in_channels),
                           .output_cell = 1,
                           .output_channels = 2 * shape.channels,
                           .wrap = vae.network.wrap};
  return run(vae, tiled, tile, pass_of(vae, vae.encoder, tiled.input_cell, tiled.input_channels), cancel);
}

}  // namespace darkroom::engine
