// Pictures and bytes for the tests of this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "engine/image/image.h"

namespace darkroom::engine {

// Smooth colours with some texture, the same on every machine; 4 channels have a varying alpha.
inline Image make_picture(int width, int height, int channels) {
  Image image(width, height, channels);
  std::uint32_t noise = 1;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      noise = noise * 1664525U + 1013904223U;
      const int values[] = {x * 255 / width, y * 255 / height, (x + y) * 3 % 256, 255 - x * 200 / width};
      for (int c = 0; c < channels; ++c) {
        image.row(y)[x * channels + c] =
            static_cast<std::uint8_t>((values[c] * 7 + static_cast<int>(noise >> 24U)) / 8);
      }
    }
  }
  return image;
}

inline std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace darkroom::engine
