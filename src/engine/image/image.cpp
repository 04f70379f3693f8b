#include "engine/image/image.h"

namespace darkroom::engine {

Image to_rgb(const Image& image) {
  if (image.channels == 3) return image;
  Image rgb(image.width, image.height, 3);
  const std::uint8_t* from = image.pixels.data();
  for (std::size_t i = 0; i < rgb.pixels.size(); i += 3, from += image.channels) {
    for (std::size_t c = 0; c < 3; ++c) rgb.pixels[i + c] = image.channels == 1 ? from[0] : from[c];
  }
  return rgb;
}

Image to_gray(const Image& image) {
  if (image.channels == 1) return image;
  Image gray(image.width, image.height, 1);
  const std::uint8_t* from = image.pixels.data();
  for (std::uint8_t& value : gray.pixels) {
    value = static_cast<std::uint8_t>((19595U * from[0] + 38470U * from[1] + 7471U * from[2] + 32768U) >> 16U);
    from += image.channels;
  }
  return gray;
}

}  // namespace darkroom::engine
