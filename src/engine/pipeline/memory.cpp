#include "engine/pipeline/memory.h"

#include <algorithm>
#include <cmath>

namespace darkroom::engine {

std::uint64_t activation_bytes(const GenerationSpec& spec, const ComputeTypes& types) {
  const double factor = spec.hires ? static_cast<double>(spec.hires->factor) : 1.0;
  const auto pixels =
      static_cast<std::uint64_t>(spec.width * factor) * static_cast<std::uint64_t>(spec.height * factor);
  const int kinds = 1 + static_cast<int>(spec.guidance_scale > 1.0F) + static_cast<int>(spec.pag_scale > 0.0F);
  const auto rows = static_cast<std::uint64_t>(spec.batch_size) * static_cast<std::uint64_t>(kinds);
  const std::uint64_t element = types.vae == DType::f32 ? 4 : 2;
  // The UNet's widest level holds some two dozen float32 tensors of 320 channels an eighth of the size: the skip
  // connections, and what a block works on; ControlNets hold as many connections again. The decoder's last level holds
  // three tensors of 256 channels and one of half, at full size; the encoder's first level holds less. The two do not
  // live at the same time.
  const std::uint64_t tensors = spec.controlnets.empty() ? 24 : 36;
  const std::uint64_t unet = rows * pixels / 64 * 320 * 4 * tensors;
  const std::uint64_t autoencoder = pixels * element * (3 * 256 + 128);
  return std::max(unet, autoencoder);
}

}  // namespace darkroom::engine
