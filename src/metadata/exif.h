// The two Exif fields that matter here: the orientation, and UserComment, where webui keeps the parameters of a JPEG or
// WebP. Exif 2.32 (CIPA DC-008); a block is a TIFF stream, with or without "Exif\0\0" before it.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace darkroom {

inline constexpr std::string_view kExifPrefix{"Exif\0\0", 6};

struct Exif {
  int orientation = 1;                      // 1…8
  std::optional<std::string> user_comment;  // UTF-8
};

// Cameras and editors write all kinds of Exif: a field that cannot be read is taken as absent.
Exif read_exif(std::span<const std::byte> block);

// A TIFF stream with a UserComment as piexif's helper writes it for webui: big endian, "UNICODE\0", UTF-16.
// `user_comment` is UTF-8.
std::vector<std::byte> make_exif(std::string_view user_comment);

}  // namespace darkroom
