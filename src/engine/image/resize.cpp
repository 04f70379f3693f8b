#include "engine/image/resize.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "base/error.h"

namespace darkroom::engine {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // of a weight; 8 for the pixel, 2 for filters that overshoot

double sinc(double x) { return x == 0 ? 1 : std::sin(std::numbers::pi * x) / (std::numbers::pi * x); }

// Half the filter's width in input pixels, when nothing is reduced.
double support_of(Filter filter) {
  switch (filter) {
    case Filter::nearest:
    case Filter::box:
      return 0.5;
    case Filter::bilinear:
      return 1;
    case Filter::bicubic:
      return 2;
    case Filter::lanczos:
      return 3;
  }
  return 0;
}

double weight_at(Filter filter, double x) {
  switch (filter) {
    case Filter::nearest:
    case Filter::box:
      return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Filter::bilinear:
      return std::max(0.0, 1 - std::abs(x));
    case Filter::bicubic: {  // Keys 1981 with a = −0.5
      constexpr double a = -0.5;
      x = std::abs(x);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    }
    case Filter::lanczos:
      return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
  }
  return 0;
}

// A stretch [begin, end) of one axis of a picture, in pixels.
struct Stretch {
  double begin = 0;
  double end = 0;
};

// The input pixels that make one output pixel, and their weights.
struct Taps {
  int first = 0;
  std::vector<std::int32_t> weights;  // 2^kPrecisionBits in all
};

std::vector<Taps> taps_of(Filter filter, int in_size, Stretch in, int out_size) {
  const double scale = (in.end - in.begin) / out_size;  // input pixels an output pixel
  const double filter_scale = std::max(scale, 1.0);
  const double support = support_of(filter) * filter_scale;
  std::vector<Taps> taps(static_cast<std::size_t>(out_size));
  std::vector<double> weights;
  for (int i = 0; i < out_size; ++i) {
    const double center = in.begin + (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int end = std::min(in_size, static_cast<int>(center + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int x = first; x < end; ++x) {
      weights.push_back(weight_at(filter, (x - center + 0.5) / filter_scale));
      sum += weights.back();
    }
    Taps& out = taps[static_cast<std::size_t>(i)];
    out.first = first;
    for (const double weight : weights) {
      const double fixed = (sum != 0 ? weight / sum : weight) * (1 << kPrecisionBits);
      out.weights.push_back(static_cast<std::int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return taps;
}

constexpr std::int32_t kHalf = 1 << (kPrecisionBits - 1);

std::uint8_t to_byte(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

template <int kChannels>
void resample_row(const std::uint8_t* in, const std::vector<Taps>& taps, std::uint8_t* out) {
  for (const Taps& tap : taps) {
    std::int32_t sums[kChannels];
    std::fill_n(sums, kChannels, kHalf);
    const std::uint8_t* from = in + tap.first * kChannels;
    for (const std::int32_t weight : tap.weights) {
      for (int c = 0; c < kChannels; ++c) sums[c] += *from++ * weight;
    }
    for (const std::int32_t sum : sums) *out++ = to_byte(sum);
  }
}

Image resample_rows(const Image& image, const std::vector<Taps>& taps) {
  Image out(static_cast<int>(taps.size()), image.height, image.channels);
  const auto resample = image.channels == 1 ? resample_row<1> : image.channels == 3 ? resample_row<3> : resample_row<4>;
  for (int y = 0; y < image.height; ++y) resample(image.row(y), taps, out.row(y));
  return out;
}

Image resample_columns(const Image& image, const std::vector<Taps>& taps) {
  Image out(image.width, static_cast<int>(taps.size()), image.channels);
  const std::size_t size = image.row_bytes();
  std::vector<std::int32_t> sums(size);
  for (int y = 0; y < out.height; ++y) {
    const Taps& tap = taps[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), kHalf);
    int line = tap.first;
    for (const std::int32_t weight : tap.weights) {
      const std::uint8_t* from = image.row(line++);
      for (std::size_t i = 0; i < size; ++i) sums[i] += from[i] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.row(y), to_byte);
  }
  return out;
}

// Pillow's RGBA → RGBa and back.
void premultiply(Image& image) {
  for (std::size_t i = 0; i < image.pixels.size(); i += 4) {
    for (std::size_t c = 0; c < 3; ++c) {
      const unsigned product = image.pixels[i + c] * image.pixels[i + 3] + 128U;
      image.pixels[i + c] = static_cast<std::uint8_t>(((product >> 8U) + product) >> 8U);
    }
  }
}

void unpremultiply(Image& image) {
  for (std::size_t i = 0; i < image.pixels.size(); i += 4) {
    const int alpha = image.pixels[i + 3];
    if (alpha == 0 || alpha == 255) continue;
    for (std::size_t c = 0; c < 3; ++c) {
      image.pixels[i + c] = static_cast<std::uint8_t>(std::min(255, 255 * image.pixels[i + c] / alpha));
    }
  }
}

// Which input pixel each output pixel is. The position is summed up as Pillow does: its rounding decides on ties.
std::vector<int> nearest_of(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  std::vector<int> positions;
  double position = 0.5 * scale;
  for (int i = 0; i < out_size; ++i, position += scale) {
    positions.push_back(std::min(in_size - 1, static_cast<int>(position)));
  }
  return positions;
}

Image resize_nearest(const Image& image, int width, int height) {
  Image out(width, height, image.channels);
  std::uint8_t* to = out.pixels.data();
  const std::vector<int> columns = nearest_of(image.width, width);
  for (const int y : nearest_of(image.height, height)) {
    for (const int x : columns) to = std::copy_n(image.row(y) + x * image.channels, image.channels, to);
  }
  return out;
}

Image resample(Image image, Stretch columns, Stretch rows, int width, int height, Filter filter) {
  if (image.channels == 4) premultiply(image);
  const auto whole = [](Stretch in, int in_size, int out_size) {
    return in_size == out_size && in.begin == 0 && in.end == in_size;
  };
  if (!whole(columns, image.width, width)) {
    image = resample_rows(image, taps_of(filter, image.width, columns, width));
  }
  if (!whole(rows, image.height, height)) {
    image = resample_columns(image, taps_of(filter, image.height, rows, height));
  }
  if (image.channels == 4) unpremultiply(image);
  return image;
}

// `top` over `bottom`, its corner at (x, y), which may lie outside.
void paste(const Image& top, Image& bottom, int x, int y) {
  const int left = std::max(0, x);
  const int right = std::min(bottom.width, x + top.width);
  for (int line = std::max(0, y); line < std::min(bottom.height, y + top.height) && left < right; ++line) {
    std::copy_n(top.row(line - y) + (left - x) * top.channels, (right - left) * top.channels,
                bottom.row(line) + left * top.channels);
  }
}

// side · numerator / denominator, rounded down as Python's // does.
int scaled(int side, int numerator, int denominator) {
  return std::max(1, static_cast<int>(std::int64_t{side} * numerator / denominator));
}

}  // namespace

Image resize(const Image& image, int width, int height, Filter filter) {
  DR_ASSERT(image.width > 0 && image.height > 0 && width > 0 && height > 0);
  if (image.width == width && image.height == height) return image;
  if (filter == Filter::nearest) return resize_nearest(image, width, height);
  return resample(image, {0, static_cast<double>(image.width)}, {0, static_cast<double>(image.height)}, width, height,
                  filter);
}

Image resize_and_crop(const Image& image, int width, int height, Filter filter) {
  DR_ASSERT(image.width > 0 && image.height > 0 && width > 0 && height > 0);
  // width / height > image.width / image.height
  const bool wider = std::int64_t{width} * image.height > std::int64_t{image.width} * height;
  const Image resized = resize(image, wider ? width : scaled(image.width, height, image.height),
                               wider ? scaled(image.height, width, image.width) : height, filter);
  Image out(width, height, image.channels);
  paste(resized, out, width / 2 - resized.width / 2, height / 2 - resized.height / 2);
  return out;
}

Image resize_and_fill(const Image& image, int width, int height, Filter filter) {
  DR_ASSERT(image.width > 0 && image.height > 0 && width > 0 && height > 0);
  const std::int64_t asked = std::int64_t{width} * image.height;
  const std::int64_t has = std::int64_t{image.width} * height;
  const bool narrower = asked < has;
  const Image resized = resize(image, narrower ? width : scaled(image.width, height, image.height),
                               narrower ? scaled(image.height, width, image.width) : height, filter);
  const int x = width / 2 - resized.width / 2;
  const int y = height / 2 - resized.height / 2;
  Image out(width, height, image.channels);
  paste(resized, out, x, y);
  // compat(diffusers): each bar is a stretch of no length at the edge, made as long as the bar with Pillow's default
  // filter: a blend of the two outermost lines. The bar after the picture is as long as the one before, so that a last
  // line may stay black.
  constexpr Filter kBarFilter = Filter::bicubic;
  const Stretch columns{0, static_cast<double>(resized.width)};
  const Stretch rows{0, static_cast<double>(resized.height)};
  if (y > 0 && narrower) {
    paste(resample(resized, columns, {0, 0}, width, y, kBarFilter), out, 0, 0);
    paste(resample(resized, columns, {rows.end, rows.end}, width, y, kBarFilter), out, 0, y + resized.height);
  }
  if (x > 0 && asked > has) {
    paste(resample(resized, {0, 0}, rows, x, height, kBarFilter), out, 0, 0);
    paste(resample(resized, {columns.end, columns.end}, rows, x, height, kBarFilter), out, x + resized.width, 0);
  }
  return out;
}

}  // namespace darkroom::engine
