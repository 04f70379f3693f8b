#include "engine/pipeline/latents.h"

#include <algorithm>
#include <cmath>

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

PictureNoise::PictureNoise(std::span<const std::uint64_t> seeds, const LatentShape& shape)
    : shape_(shape), generators_(seeds.begin(), seeds.end()), planes_(shape.each()) {
  DR_ASSERT(seeds.size() == static_cast<std::size_t>(shape.pictures));
}

void PictureNoise::fill(std::span<float> batch) {
  DR_ASSERT(batch.size() == shape_.elements());
  for (std::size_t i = 0; i < generators_.size(); ++i) {
    generators_[i].randn(planes_);
    to_channels_last(planes_, shape_.channels, batch.subspan(i * shape_.each(), shape_.each()));
  }
}

void mix_noise(std::span<float> a, std::span<const float> b, float strength, const LatentShape& shape) {
  const auto row = static_cast<std::size_t>(shape.width) * static_cast<std::size_t>(shape.channels);
  const auto height = static_cast<std::size_t>(shape.height);
  // dot[column] of one picture: the cosine of the angle between the two columns.
  const auto cosine = [&](std::size_t begin, std::size_t column) {
    double aa = 0;
    double bb = 0;
    double ab = 0;
    for (std::size_t y = 0; y < height; ++y) {
      const double va = a[begin + y * row + column];
      const double vb = b[begin + y * row + column];
      aa += va * va;
      bb += vb * vb;
      ab += va * vb;
    }
    return ab / std::sqrt(aa * bb);
  };
  for (std::size_t begin = 0; begin < a.size(); begin += shape.each()) {
    std::vector<double> cosines(row);
    double sum = 0;
    for (std::size_t column = 0; column < row; ++column) sum += cosines[column] = cosine(begin, column);
    const bool nearly_equal = sum / static_cast<double>(row) > 0.9995;
    for (std::size_t column = 0; column < row; ++column) {
      const double angle = std::acos(std::clamp(cosines[column], -1.0, 1.0));
      const double sine = std::sin(angle);
      const bool straight = nearly_equal || sine == 0;
      const double of_a = straight ? 1.0 - strength : std::sin((1.0 - strength) * angle) / sine;
      const double of_b = straight ? strength : std::sin(strength * angle) / sine;
      for (std::size_t y = 0; y < height; ++y) {
        float& value = a[begin + y * row + column];
        value = static_cast<float>(of_a * value + of_b * b[begin + y * row + column]);
      }
    }
  }
}

namespace {

// Where an output sample lies between two input samples along one axis.
struct Between {
  std::size_t low = 0;
  std::size_t high = 0;
  float part = 0;  // of the high one
};

std::vector<Between> between(int from, int to) {
  std::vector<Between> places;
  const float scale = static_cast<float>(from) / static_cast<float>(to);
  for (int i = 0; i < to; ++i) {
    const float place = std::max(scale * (static_cast<float>(i) + 0.5F) - 0.5F, 0.0F);
    const auto low = static_cast<std::size_t>(place);
    const std::size_t high = std::min(low + 1, static_cast<std::size_t>(from) - 1);
    places.push_back({.low = low, .high = high, .part = place - static_cast<float>(low)});
  }
  return places;
}

}  // namespace

std::vector<float> resize_latents(std::span<const float> latents, const LatentShape& from, const LatentShape& to) {
  const std::vector<Between> rows = between(from.height, to.height);
  const std::vector<Between> columns = between(from.width, to.width);
  const auto channels = static_cast<std::size_t>(from.channels);
  const auto row = static_cast<std::size_t>(from.width) * channels;
  std::vector<float> resized;
  resized.reserve(to.elements());
  for (std::size_t begin = 0; begin < latents.size(); begin += from.each()) {
    for (const Between& y : rows) {
      const float* low = latents.data() + begin + y.low * row;
      const float* high = latents.data() + begin + y.high * row;
      for (const Between& x : columns) {
        for (std::size_t c = 0; c < channels; ++c) {
          const auto across = [&](const float* line) {
            return (1.0F - x.part) * line[x.low * channels + c] + x.part * line[x.high * channels + c];
          };
          resized.push_back((1.0F - y.part) * across(low) + y.part * across(high));
        }
      }
    }
  }
  return resized;
}

}  // namespace darkroom::engine
