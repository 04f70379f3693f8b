// A picture in host memory: 8 bits a channel, interleaved, rows from the top without padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace darkroom::engine {

struct Image {
  int width = 0;                     // pixels
  int height = 0;                    // pixels
  int channels = 0;                  // 1 gray, 3 RGB, 4 RGBA (straight alpha)
  std::vector<std::uint8_t> pixels;  // [height, width, channels]

  Image() = default;
  // Black; with alpha, transparent black.
  Image(int width_, int height_, int channels_)
      : width(width_),
        height(height_),
        channels(channels_),
        pixels(static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_) *
               static_cast<std::size_t>(channels_)) {}

  std::size_t row_bytes() const { return static_cast<std::size_t>(width) * static_cast<std::size_t>(channels); }
  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * row_bytes(); }
  const std::uint8_t* row(int y) const { return pixels.data() + static_cast<std::size_t>(y) * row_bytes(); }

  bool operator==(const Image&) const = default;
};

// As Pillow's convert("RGB"): gray is repeated, alpha is dropped, not composited.
// compat(diffusers): load_image converts so, hence a transparent pixel shows whatever colour is stored under it.
Image to_rgb(const Image& image);

// As Pillow's convert("L"): (19595 R + 38470 G + 7471 B + 32768) >> 16, ITU-R 601-2; alpha is dropped.
Image to_gray(const Image& image);

}  // namespace darkroom::engine
