#include "engine/models/freeu.h"

#include <array>
#include <cmath>
#include <numbers>

namespace darkroom::engine {
namespace {

// Which of the coefficients of a transform of `n` samples the square of two by two in the middle of the shifted
// spectrum covers: the constant and the one below it. compat(diffusers): a square of even side is not symmetric.
std::vector<int> low_frequencies(std::int64_t n) { return n < 2 ? std::vector{0} : std::vector{-1, 0}; }

// One channel [h,w] of a picture whose pixels are `stride` apart.
struct Plane {
  float* values;
  std::int64_t height;
  std::int64_t width;
  std::int64_t stride;
  float& at(std::int64_t y, std::int64_t x) const { return values[(y * width + x) * stride]; }
};

// cos and sin of 2π·frequency·i/n for i = 0…n−1
std::vector<std::array<double, 2>> wave(int frequency, std::int64_t n) {
  std::vector<std::array<double, 2>> turns;
  for (std::int64_t i = 0; i < n; ++i) {
    const double angle = 2 * std::numbers::pi * frequency * static_cast<double>(i) / static_cast<double>(n);
    turns.push_back({std::cos(angle), std::sin(angle)});
  }
  return turns;
}

// The real part of what is left when the lowest frequencies of a plane are multiplied by `scale`: with so few of
// them, each is found and scaled by itself, without transforming the rest.
void scale_low_frequencies(const Plane& plane, float scale) {
  const double count = static_cast<double>(plane.height) * static_cast<double>(plane.width);
  std::vector<double> change(static_cast<std::size_t>(count));
  for (const int fy : low_frequencies(plane.height)) {
    const auto rows = wave(fy, plane.height);
    for (const int fx : low_frequencies(plane.width)) {
      const auto columns = wave(fx, plane.width);
      const auto turn = [&](std::int64_t y, std::int64_t x) {
        const auto& [cy, sy] = rows[static_cast<std::size_t>(y)];
        const auto& [cx, sx] = columns[static_cast<std::size_t>(x)];
        return std::array{cy * cx - sy * sx, sy * cx + cy * sx};
      };
      double real = 0;
      double imaginary = 0;  // of Σ value·e^(−iφ)
      for (std::int64_t y = 0; y < plane.height; ++y) {
        for (std::int64_t x = 0; x < plane.width; ++x) {
          const auto [c, s] = turn(y, x);
          real += plane.at(y, x) * c;
          imaginary -= plane.at(y, x) * s;
        }
      }
      for (std::int64_t y = 0; y < plane.height; ++y) {
        for (std::int64_t x = 0; x < plane.width; ++x) {
          const auto [c, s] = turn(y, x);
          change[static_cast<std::size_t>(y * plane.width + x)] += (real * c - imaginary * s) / count;
        }
      }
    }
  }
  for (std::int64_t y = 0; y < plane.height; ++y) {
    for (std::int64_t x = 0; x < plane.width; ++x) {
      plane.at(y, x) += static_cast<float>((scale - 1.0) * change[static_cast<std::size_t>(y * plane.width + x)]);
    }
  }
}

}  // namespace

void apply_freeu(const FreeU& freeu, std::size_t level, Tensor& hidden, Tensor& skip) {
  if (level > 1) return;
  const float backbone = level == 0 ? freeu.b1 : freeu.b2;
  const float low = level == 0 ? freeu.s1 : freeu.s2;

  std::vector<float> values = to_host(hidden);
  const auto channels = static_cast<std::size_t>(hidden.channels());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % channels < channels / 2) values[i] *= backbone;
  }
  hidden = from_host(hidden.backend(), values, hidden.shape());

  values = to_host(skip);
  const std::int64_t picture = skip.elements() / skip.dim(0);
  for (std::int64_t n = 0; n < skip.dim(0); ++n) {
    for (std::int64_t c = 0; c < skip.channels(); ++c) {
      scale_low_frequencies({.values = values.data() + n * picture + c,
                             .height = skip.dim(1),
                             .width = skip.dim(2),
                             .stride = skip.channels()},
                            low);
    }
  }
  skip = from_host(skip.backend(), values, skip.shape());
}

}  // namespace darkroom::engine
