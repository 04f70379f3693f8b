// What the decoders' fuzz targets do with a file.
#pragma once

#include "base/error.h"
#include "engine/image/codec.h"
#include "metadata/picture_file.h"

namespace darkroom::engine {

inline void decode_and_read(std::span<const std::byte> file) {
  if (const auto image = decode_image(file, {.side = 1024, .pixels = 1 << 18})) {
    DR_ASSERT(image->pixels.size() == image->row_bytes() * static_cast<std::size_t>(image->height));
  }
  static_cast<void>(read_parameters(file));
}

}  // namespace darkroom::engine
