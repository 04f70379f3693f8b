// Other sizes of a picture, bit for bit as Pillow's Image.resize: separable, antialiased (the filter is as wide as the
// reduction), 22-bit fixed point, rows first; RGBA is weighed by its alpha. And diffusers' ways to fit one shape into
// another (VaeImageProcessor.resize: "default", "crop", "fill").
#pragma once

#include <cstdint>

#include "engine/image/image.h"

namespace darkroom::engine {

enum class Filter : std::uint8_t { nearest, box, bilinear, bicubic, lanczos };

// In all three the picture and the size asked for have at least one pixel a side.

// Stretched to exactly width × height.
Image resize(const Image& image, int width, int height, Filter filter = Filter::lanczos);

// Its shape kept, as small as it can be while covering width × height, and centred: what sticks out is cut off.
Image resize_and_crop(const Image& image, int width, int height, Filter filter = Filter::lanczos);

// Its shape kept, as large as fits into width × height, and centred; the bars repeat the picture's edge.
Image resize_and_fill(const Image& image, int width, int height, Filter filter = Filter::lanczos);

}  // namespace darkroom::engine
