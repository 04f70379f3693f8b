#include "engine/pipeline/latents.h"

#include "base/error.h"

namespace darkroom::engine {

void to_channels_last(std::span<const float> planes, int channels, std::span<float> pixels) {
  const auto count = static_cast<std::size_t>(channels);
  const std::size_t size = planes.size() / count;
  for (std::size_t c = 0; c < count; ++c) {
    for (std::size_t p = 0; p < size; ++p) pixels[p * count + c] = planes[c * size + p];
  }
}

void to_channels_first(std::span<const float> pixels, int channels, std::span<float> planes) {
  const auto count = static_cast<std::size_t>(channels);
  const std::size_t size = pixels.size() / count;
  for (std::size_t c = 0; c < count; ++c) {
    for (std::size_t p = 0; p < size; ++p) planes[c * size + p] = pixels[p * count + c];
  }
}

PictureNoise::PictureNoise(std::uint64_t seed, const LatentShape& shape) : shape_(shape), planes_(shape.each()) {
  for (int i = 0; i < shape.pictures; ++i) generators_.emplace_back(seed + static_cast<std::uint64_t>(i));
}

void PictureNoise::fill(std::span<float> batch) {
  DR_ASSERT(batch.size() == shape_.elements());
  for (std::size_t i = 0; i < generators_.size(); ++i) {
    generators_[i].randn(planes_);
    to_channels_last(planes_, shape_.channels, batch.subspan(i * shape_.each(), shape_.each()));
  }
}

}  // namespace darkroom::engine
