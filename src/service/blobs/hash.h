// Digests, in hexadecimal or raw.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"

namespace darkroom {

std::string to_hex(std::string_view bytes);

std::string sha256(std::string_view bytes);      // 32 bytes
std::string sha256_hex(std::string_view bytes);  // 64 digits
Result<std::string> sha256_of_file(int fd);      // 32 bytes; from where the descriptor stands to the end
std::string hmac_sha256(std::string_view key, std::string_view bytes);  // 32 bytes

// Takes as long whatever differs.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace darkroom
