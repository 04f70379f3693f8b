#include "engine/image/pixels.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace darkroom::engine {
namespace {

Image transpose(const Image& image) {
  Image out(image.height, image.width, image.channels);
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      std::copy_n(image.row(x) + y * image.channels, image.channels, out.row(y) + x * image.channels);
    }
  }
  return out;
}

// The radius of the box blur that, run `passes` times, has the variance of a Gaussian (Gwosdek et al. 2011,
// "Theoretical foundations of Gaussian convolution by extended box filtering"). Fractional: the box's outermost pixels
// weigh less.
float box_radius(float sigma, int passes) {
  const float variance = sigma * sigma / static_cast<float>(passes);
  const auto length = static_cast<float>(std::sqrt(12.0 * variance + 1.0));
  const auto whole = static_cast<float>(std::floor((length - 1.0) / 2.0));
  const float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  return whole + part / (6 * (variance - (whole + 1) * (whole + 1)));
}

// One pass along a row of `size` pixels; values past an end are the end's.
void box_blur_row(const std::uint8_t* in, std::uint8_t* out, int size, int channels, float radius) {
  const int whole = static_cast<int>(radius);
  const auto weight = static_cast<std::uint32_t>(16777216.0F / (radius * 2 + 1));
  const std::uint32_t edge_weight = ((1U << 24U) - (2U * static_cast<std::uint32_t>(whole) + 1U) * weight) / 2;
  for (int c = 0; c < channels; ++c) {
    const auto at = [&](int x) -> std::uint32_t { return in[std::clamp(x, 0, size - 1) * channels + c]; };
    std::uint32_t sum = 0;  // of the box around x − 1
    for (int x = -whole - 1; x < whole; ++x) sum += at(x);
    for (int x = 0; x < size; ++x) {
      sum += at(x + whole) - at(x - whole - 1);
      const std::uint32_t value = sum * weight + (at(x - whole - 1) + at(x + whole + 1)) * edge_weight;
      out[x * channels + c] = static_cast<std::uint8_t>((value + (1U << 23U)) >> 24U);
    }
  }
}

constexpr int kPasses = 3;

Image box_blur_rows(Image image, float radius) {
  Image next = image;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (int y = 0; y < image.height; ++y) {
      box_blur_row(image.row(y), next.row(y), image.width, image.channels, radius);
    }
    std::swap(image, next);
  }
  return image;
}

Image dilate_rows(const Image& mask, int radius) {
  Image out = mask;
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      for (int near = std::max(0, x - radius); near <= std::min(mask.width - 1, x + radius); ++near) {
        for (int c = 0; c < mask.channels; ++c) {
          std::uint8_t& value = out.row(y)[x * mask.channels + c];
          value = std::max(value, mask.row(y)[near * mask.channels + c]);
        }
      }
    }
  }
  return out;
}

}  // namespace

std::vector<float> to_unit_floats(const Image& image) {
  std::vector<float> values(image.pixels.size());
  std::transform(image.pixels.begin(), image.pixels.end(), values.begin(),
                 [](std::uint8_t v) { return static_cast<float>(v) / 255.0F; });
  return values;
}

std::vector<float> to_signed_floats(const Image& image) {
  std::vector<float> values = to_unit_floats(image);
  for (float& value : values) value = 2.0F * value - 1.0F;
  return values;
}

Image from_unit_floats(std::span<const float> values, int width, int height, int channels) {
  Image image(width, height, channels);
  DR_ASSERT(values.size() == image.pixels.size());
  std::transform(values.begin(), values.end(), image.pixels.begin(), [](float v) {
    return static_cast<std::uint8_t>(std::nearbyint(255.0F * (v > 0 ? std::min(v, 1.0F) : 0.0F)));
  });
  return image;
}

Image binarize(const Image& mask) {
  Image out = mask;
  for (std::uint8_t& value : out.pixels) value = value >= 128 ? 255 : 0;
  return out;
}

Image gaussian_blur(const Image& image, float radius) {
  DR_ASSERT(radius >= 0);
  const float box = box_radius(radius, kPasses);
  return transpose(box_blur_rows(transpose(box_blur_rows(image, box)), box));
}

Image dilate(const Image& mask, int radius) {
  DR_ASSERT(radius >= 0);
  return transpose(dilate_rows(transpose(dilate_rows(mask, radius)), radius));
}

Image extend_picture(const Image& picture, const Margins& margins) {
  DR_ASSERT(picture.width > 0 && picture.height > 0);
  DR_ASSERT(std::min({margins.left, margins.top, margins.right, margins.bottom}) >= 0);
  Image out(margins.left + picture.width + margins.right, margins.top + picture.height + margins.bottom,
            picture.channels);
  for (int y = 0; y < out.height; ++y) {
    const std::uint8_t* from = picture.row(std::clamp(y - margins.top, 0, picture.height - 1));
    for (int x = 0; x < out.width; ++x) {
      std::copy_n(from + std::clamp(x - margins.left, 0, picture.width - 1) * picture.channels, picture.channels,
                  out.row(y) + x * picture.channels);
    }
  }
  return out;
}

Image extend_mask(const Image& mask, const Margins& margins) {
  Image out = extend_picture(mask, margins);
  for (int y = 0; y < out.height; ++y) {
    const bool outside = y < margins.top || y >= margins.top + mask.height;
    std::uint8_t* row = out.row(y);
    const int left = outside ? out.width : margins.left;
    std::fill_n(row, left * out.channels, std::uint8_t{255});
    std::fill(row + (margins.left + mask.width) * out.channels, row + out.row_bytes(), std::uint8_t{255});
  }
  return out;
}

}  // namespace darkroom::engine
