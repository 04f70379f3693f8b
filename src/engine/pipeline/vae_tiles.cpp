#include "engine/pipeline/vae_tiles.h"

#include <algorithm>

#include "engine/pipeline/tiles.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

std::uint64_t decoder_bytes(int height, int width, int tile, DType type, std::int64_t channels) {
  constexpr std::uint64_t kPixels = std::uint64_t{kLatentPixels} * kLatentPixels;
  // Of one pixel at full size, in the last level's own channels.
  const std::uint64_t pixel = static_cast<std::uint64_t>(channels) * (type == DType::f32 ? 4 : 2);
  const std::uint64_t whole = static_cast<std::uint64_t>(height) * static_cast<std::uint64_t>(width) * kPixels;
  // At once, the last level holds three tensors of twice its channels, as it gets them, and one of its own.
  const std::uint64_t at_once = whole * pixel * 7;
  if (tile == 0) return at_once;
  // In bands, two tensors are whole, and a band with twelve rows more than it shows holds less than eight of them.
  const std::uint64_t band = (static_cast<std::uint64_t>(tile) * static_cast<std::uint64_t>(tile) * kPixels) +
                             12 * static_cast<std::uint64_t>(width) * kLatentPixels;
  return std::min(at_once, (whole * pixel * 2) + (band * pixel * 8));
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
