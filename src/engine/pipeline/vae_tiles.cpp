#include "engine/pipeline/vae_tiles.h"

#include <algorithm>

#include "engine/pipeline/tiles.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

std::uint64_t decoder_bytes(int height, int width, int tile, DType type) {
  constexpr auto kPixels = static_cast<std::uint64_t>(kLatentPixels * kLatentPixels);
  const std::uint64_t size = type == DType::f32 ? 4 : 2;
  const std::uint64_t whole = static_cast<std::uint64_t>(height) * static_cast<std::uint64_t>(width) * kPixels;
  // At once, the last level holds three tensors of 256 channels and one of half that, at full size.
  const std::uint64_t at_once = whole * size * (3 * 256 + 128);
  if (tile == 0) return at_once;
  // In bands, two tensors of 128 channels are whole, and a band with twelve rows more than it shows holds less than
  // eight of them.
  const std::uint64_t band = (static_cast<std::uint64_t>(tile) * static_cast<std::uint64_t>(tile) * kPixels) +
                             12 * static_cast<std::uint64_t>(width) * kLatentPixels;
  return std::min(at_once, (whole * size * 2 * 128) + (band * size * 8 * 128));
}

int vae_tile_within(std::uint64_t bytes, int height, int width, DType type) {
  if (decoder_bytes(height, width, 0, type) <= bytes) return 0;
  constexpr int kStep = 8;
  int tile = kMinVaeTile;
  while (tile + kStep < std::max(height, width) && decoder_bytes(height, width, tile + kStep, type) <= bytes)
    tile += kStep;
  return tile;
}

int vae_tile(int asked, int height, int width, DType type) {
  if (std::int64_t{asked} * asked >= std::int64_t{height} * width) return 0;
  return asked != 0 ? asked : vae_tile_within(activation_budget(), height, width, type);
}

}  // namespace darkroom::engine
