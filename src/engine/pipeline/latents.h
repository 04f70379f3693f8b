// Latents on the host: [N, h, w, C] floats, and the noise that they start from. Noise is drawn as torch draws it, in
// [C, h, w] order from one generator a picture, so that a picture does not depend on the batch that it is in.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampling/noise_source.h"
#include "engine/sampling/random.h"

namespace darkroom::engine {

struct LatentShape {
  int pictures = 1;
  int height = 0;  // an eighth of the picture's
  int width = 0;
  int channels = 4;
  std::size_t each() const {
    return static_cast<std::size_t>(height) * static_cast<std::size_t>(width) * static_cast<std::size_t>(channels);
  }
  std::size_t elements() const { return each() * static_cast<std::size_t>(pictures); }
};

// [C, h, w] → [h, w, C] and back, one picture.
void to_channels_last(std::span<const float> planes, int channels, std::span<float> pixels);
void to_channels_first(std::span<const float> pixels, int channels, std::span<float> planes);

// Standard normal noise for a batch: each picture draws from torch's CPU generator with its own seed.
class PictureNoise final : public NoiseSource {
 public:
  // One seed a picture.
  PictureNoise(std::span<const std::uint64_t> seeds, const LatentShape& shape);
  void fill(std::span<float> batch) override;  // [N, h, w, C]

 private:
  LatentShape shape_;
  std::vector<TorchGenerator> generators_;
  std::vector<float> planes_;
};

// Spherical interpolation from a to b, [pictures, h, w, C] both: strength 0 gives a, 1 gives b. The webui's: the angle
// is taken along each column of each channel, so that its variation seeds give the same pictures here.
void mix_noise(std::span<float> a, std::span<const float> b, float strength, const LatentShape& shape);

// Bilinear, corners not aligned, no antialiasing: torch's interpolate, as the webui enlarges latents.
std::vector<float> resize_latents(std::span<const float> latents, const LatentShape& from, const LatentShape& to);

}  // namespace darkroom::engine
