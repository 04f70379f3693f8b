// What the three codecs share inside this folder; callers use codec.h.
#pragma once

#include <optional>
#include <span>
#include <string>
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

Result<std::optional<std::string>> read_png_parameters(std::span<const std::byte> file);
Result<std::optional<std::string>> read_jpeg_parameters(std::span<const std::byte> file);
Result<std::optional<std::string>> read_webp_parameters(std::span<const std::byte> file);

Result<void> check_size(std::string_view format, std::int64_t width, std::int64_t height, const DecodeLimits& limits);

// What every encoder refuses: a picture that is empty or larger than the format's side, a quality outside 1…100.
Result<void> check_encodable(std::string_view format, const Image& image, int max_side, int quality = 100);

// The parameters text must be UTF-8 without zero bytes.
Result<void> check_parameters(std::string_view parameters);

}  // namespace darkroom::engine
