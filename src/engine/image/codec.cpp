#include "engine/image/codec.h"

#include <algorithm>
#include <utility>

#include "engine/image/formats.h"
#include "metadata/picture_file.h"

namespace darkroom::engine {
namespace {

// The picture turned upright: where each pixel of it lies in the stored one (Exif 2.32, 4.6.4).
Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swap = orientation >= 5;  // rows become columns
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out(swap ? image.height : image.width, swap ? image.width : image.height, image.channels);
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int column = swap ? y : x;
      const int line = swap ? x : y;
      const std::uint8_t* from = image.row(flip_y ? image.height - 1 - line : line) +
                                 (flip_x ? image.width - 1 - column : column) * image.channels;
      std::copy_n(from, image.channels, out.row(y) + x * image.channels);
    }
  }
  return out;
}

}  // namespace

Result<Image> decode_image(std::span<const std::byte> file, const DecodeLimits& limits) {
  if (file.size() > limits.bytes) {
    return fail(ErrorCode::invalid_argument, "the picture file has {} bytes; the limit is {}", file.size(),
                limits.bytes);
  }
  const auto decode = [&](PictureFormat format) {
    switch (format) {
      case PictureFormat::png:
        return decode_png(file, limits);
      case PictureFormat::jpeg:
        return decode_jpeg(file, limits);
      case PictureFormat::webp:
        break;
    }
    return decode_webp(file, limits);
  };
  return picture_format(file).and_then(decode).map(
      [](Decoded&& decoded) { return upright(std::move(decoded.image), decoded.orientation); });
}

Result<void> check_size(std::string_view format, std::int64_t width, std::int64_t height, const DecodeLimits& limits) {
  if (width > limits.side || height > limits.side) {
    return fail(ErrorCode::invalid_argument, "the {} picture is {}×{} pixels; the limit is {} a side", format, width,
                height, limits.side);
  }
  if (width * height > limits.pixels) {
    return fail(ErrorCode::invalid_argument, "the {} picture is {}×{}, {} pixels; the limit is {} pixels", format,
                width, height, width * height, limits.pixels);
  }
  return {};
}

Result<void> check_encodable(std::string_view format, const Image& image, int max_side, int quality) {
  DR_ASSERT(image.pixels.size() == image.row_bytes() * static_cast<std::size_t>(image.height));
  if (image.width < 1 || image.height < 1) {
    return fail(ErrorCode::invalid_argument, "a {}×{} picture cannot be written as {}", image.width, image.height,
                format);
  }
  if (image.width > max_side || image.height > max_side) {
    return fail(ErrorCode::invalid_argument, "a {}×{} picture cannot be written as {}: the format's limit is {} a side",
                image.width, image.height, format, max_side);
  }
  if (quality < 1 || quality > 100) {
    return fail(ErrorCode::invalid_argument, "{} quality is {}; it goes from 1 to 100", format, quality);
  }
  return {};
}

}  // namespace darkroom::engine
