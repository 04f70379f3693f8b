// PNG files; each chunk's checksum is put right first, or libpng would look no further.

#include <zlib.h>

#include "decode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file(data, data + size);
  const auto put_right = [&](std::size_t at) {  // gives the next chunk's offset
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8U | file[at + i];
    if (length > file.size() - at - 12) return file.size();
    const auto crc = crc32(0, file.data() + at + 4, static_cast<unsigned>(length + 4));
    for (std::size_t i = 0; i < 4; ++i) file[at + 8 + length + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
    return at + 12 + length;
  };
  for (std::size_t at = 8; at + 12 <= file.size();) at = put_right(at);
  darkroom::engine::decode_and_read(std::as_bytes(std::span(file)));
  return 0;
}
