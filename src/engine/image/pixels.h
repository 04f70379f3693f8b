// Between pixels and the numbers of a network, and masks: what diffusers' VaeImageProcessor does with a picture.
#pragma once

#include <span>
#include <vector>

#include "engine/image/image.h"

namespace darkroom::engine {

// 2 (v / 255) − 1 in [−1, 1]: [height, width, channels].
std::vector<float> to_signed_floats(const Image& image);
// v / 255 in [0, 1]: [height, width, channels].
std::vector<float> to_unit_floats(const Image& image);
// round(255 v), halves to even as numpy rounds; v is held to [0, 1] and what is not a number gives 0.
// values: [height, width, channels].
Image from_unit_floats(std::span<const float> values, int width, int height, int channels);

// 255 where a pixel is at least half white, else 0.
Image binarize(const Image& mask);

// Bit for bit Pillow's ImageFilter.GaussianBlur: three box blurs each way. radius: the Gaussian's σ in pixels.
Image gaussian_blur(const Image& image, float radius);

// The largest value in the square of 2 radius + 1 pixels a side around each pixel, as Pillow's ImageFilter.MaxFilter
// but for the border, where the square ends with the picture. Grows what is white in a mask by `radius` pixels.
Image dilate(const Image& mask, int radius);

struct Margins {
  int left = 0, top = 0, right = 0, bottom = 0;  // pixels, at least 0
};

// Outpainting. The picture with margins that continue its outermost pixels,
Image extend_picture(const Image& picture, const Margins& margins);
// and the mask of what is to be painted: white margins around the given mask of the picture.
Image extend_mask(const Image& mask, const Margins& margins);

}  // namespace darkroom::engine
