// Files of any format; start it from JPEG and WebP files.

#include "decode.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  darkroom::engine::decode_and_read(std::as_bytes(std::span(data, size)));
  return 0;
}
