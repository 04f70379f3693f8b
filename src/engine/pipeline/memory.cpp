#include "engine/pipeline/memory.h"

#include <algorithm>
#include <cmath>

#include "engine/pipeline/upscale.h"
#include "engine/pipeline/vae_tiles.h"

namespace darkroom::engine {
namespace {

// Of every job: tokenizers, tables, threads, what the allocator keeps.
constexpr std::uint64_t kFixed = 40'000'000;  // bytes

// A picture as bytes, as floats and encoded.
constexpr std::uint64_t kBytesPerPixel = 3 * (1 + sizeof(float) + 1);

}  // namespace

std::uint64_t activation_bytes(const GenerationSpec& spec, const ComputeTypes& types, const NetworkWidths& widths) {
  if (only_enlarges(spec)) {
    return kFixed + upscale_bytes(*spec.upscale, {.width = spec.width, .height = spec.height}, 1, upscaler_type(types));
  }
  const double factor = spec.hires ? static_cast<double>(spec.hires->factor) : 1.0;
  const Size size{.width = static_cast<int>(spec.width * factor), .height = static_cast<int>(spec.height * factor)};
  const auto pixels = static_cast<std::uint64_t>(size.width) * static_cast<std::uint64_t>(size.height);
  const int kinds = 1 + static_cast<int>(spec.guidance_scale > 1.0F) + static_cast<int>(spec.pag_scale > 0.0F);
  const int at_a_time = spec.batch_parallel ? spec.batch_size : 1;  // pictures
  const auto rows = static_cast<std::uint64_t>(at_a_time) * static_cast<std::uint64_t>(kinds);
  // The UNet's outermost level holds some two dozen float32 tensors an eighth of the size: the skip connections, and
  // what a block works on; each ControlNet holds its picture beside them. It, the autoencoder and the upscalers do not
  // live at the same time.
  const std::uint64_t tensors = 24 + spec.controlnets.size();
  const std::uint64_t unet = rows * pixels / 64 * static_cast<std::uint64_t>(widths.unet) * sizeof(float) * tensors;
  const int height = size.height / kLatentPixels, width = size.width / kLatentPixels;
  const int tile = vae_tile(spec.vae_tile, height, width, types.vae);
  const std::uint64_t autoencoder = decoder_bytes(height, width, tile, types.vae, widths.vae);
  std::uint64_t upscaler = 0;
  if (spec.hires && spec.hires->upscaler != kLatentUpscaler) {
    upscaler = upscale_bytes({.model = spec.hires->upscaler, .factor = spec.hires->factor},
                             {.width = spec.width, .height = spec.height}, 1, upscaler_type(types));
  }
  if (spec.upscale) {
    upscaler = std::max(upscaler, upscale_bytes(*spec.upscale, size, spec.batch_size, upscaler_type(types)));
  }
  const std::uint64_t pictures = static_cast<std::uint64_t>(spec.batch_size) * pixels * kBytesPerPixel;
  return kFixed + pictures + std::max({unet, autoencoder, upscaler});
}

}  // namespace darkroom::engine
