// Picture files in and out: PNG (libpng), JPEG (libjpeg-turbo), WebP (libwebp). The generation parameters go where
// metadata/picture_file.h reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/image/image.h"

namespace darkroom::engine {

using Bytes = std::vector<std::byte>;

// What a file may ask of us, checked before memory is taken for its pixels.
struct DecodeLimits {
  std::size_t bytes = std::size_t{64} << 20U;     // of the file
  int side = 16384;                               // pixels
  std::int64_t pixels = std::int64_t{64} << 20U;  // width × height
};

// The format is known by the file's first bytes. Exif orientation is applied, 16-bit channels keep their high byte
// (as Pillow does), palettes are looked up, transparency of any kind gives 4 channels, colour profiles are ignored.
// Errors: invalid_argument past a limit; corrupt_data for a damaged or cut file and for other formats; unsupported for
// animated WebP and CMYK JPEG.
Result<Image> decode_image(std::span<const std::byte> file, const DecodeLimits& limits = {});

// `parameters` is UTF-8 and written when not empty. Errors: invalid_argument for an empty picture, text that is not
// UTF-8, and what the format cannot hold; the limit is named.
Result<Bytes> encode_png(const Image& image, std::string_view parameters = {});

// quality: 1…100; from 90 on without chroma subsampling, below with 4:2:0. No alpha.
Result<Bytes> encode_jpeg(const Image& image, int quality, std::string_view parameters = {});

// quality: 1…99 lossy; 100 is lossless, colours under transparent pixels included.
Result<Bytes> encode_webp(const Image& image, int quality, std::string_view parameters = {});

}  // namespace darkroom::engine
