// What the three codecs share inside this folder; callers use codec.h.
#pragma once

#include <span>
#include <string_view>

#include "engine/image/codec.h"

namespace darkroom::engine {

struct Decoded {
  Image image;
  int orientation = 1;  // Exif's 1…8; 1: as stored
};

Result<Decoded> decode_png(std::span<const std::byte> file, const DecodeLimits& limits);
Result<Decoded> decode_jpeg(std::span<const std::byte> file, const DecodeLimits& limits);
Result<Decoded> decode_webp(std::span<const std::byte> file, const DecodeLimits& limits);

Result<void> check_size(std::string_view format, std::int64_t width, std::int64_t height, const DecodeLimits& limits);

// What every encoder refuses: a picture that is empty or larger than the format's side, a quality outside 1…100.
Result<void> check_encodable(std::string_view format, const Image& image, int max_side, int quality = 100);

}  // namespace darkroom::engine
