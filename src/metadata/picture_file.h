// What can be told of a PNG, JPEG or WebP file without decoding its pixels: its format, its size, its Exif block, and
// the generation parameters that it carries where AUTOMATIC1111's webui writes them: a PNG text chunk "parameters",
// Exif's UserComment in JPEG and WebP. Nothing in a file is trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"

namespace darkroom {

enum class PictureFormat : std::uint8_t { png, jpeg, webp };

// By the first bytes. Error: corrupt_data.
Result<PictureFormat> picture_format(std::span<const std::byte> file);

struct PictureSize {
  int width = 0;  // pixels, as stored: Exif's orientation is not looked at
  int height = 0;
  bool operator==(const PictureSize&) const = default;
};

// Error: corrupt_data, also for a file that ends before it tells.
Result<PictureSize> picture_size(std::span<const std::byte> file);

// The parameters text, in UTF-8; absent: it carries none. Error: corrupt_data.
Result<std::optional<std::string>> read_parameters(std::span<const std::byte> file);

// The Exif block of a JPEG or WebP file; empty: none that can be found.
std::span<const std::byte> find_exif(std::span<const std::byte> file);

}  // namespace darkroom
