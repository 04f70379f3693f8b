#include "engine/image/latent_preview.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace darkroom::engine {
namespace {

constexpr std::size_t kChannels = 4;
// Red, green and blue of each channel of SDXL's latents, and of none: fitted on decoded pictures, as ComfyUI's
// latent_formats.py has them. In [−1, 1].
constexpr std::array<std::array<float, 3>, kChannels> kFactors = {{{0.3651F, 0.4232F, 0.4341F},
                                                                   {-0.2533F, -0.0042F, 0.1068F},
                                                                   {0.1076F, 0.1111F, -0.0362F},
                                                                   {-0.3165F, -0.2492F, -0.2188F}}};
constexpr std::array<float, 3> kBias = {0.1084F, -0.0175F, -0.0011F};

}  // namespace

Image latent_preview(std::span<const float> latents, int height, int width) {
  // Noise makes latents larger than a picture's, whose deviation is about 1.
  double squares = 0;
  for (const float value : latents) squares += static_cast<double>(value) * value;
  const double deviation = std::sqrt(squares / static_cast<double>(std::max<std::size_t>(latents.size(), 1)));
  const float scale = deviation > 1.0 ? static_cast<float>(1.0 / deviation) : 1.0F;

  Image preview(width, height, 3);
  for (std::size_t i = 0; i < preview.pixels.size(); ++i) {
    const float* pixel = latents.data() + i / 3 * kChannels;
    float value = kBias[i % 3];
    for (std::size_t c = 0; c < kChannels; ++c) value += scale * pixel[c] * kFactors[c][i % 3];
    preview.pixels[i] = static_cast<std::uint8_t>(std::lround(std::clamp(value / 2 + 0.5F, 0.0F, 1.0F) * 255.0F));
  }
  return preview;
}

}  // namespace darkroom::engine
