// Digests.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace darkroom {

std::string to_hex(std::string_view bytes);
// Nothing if it is none as to_hex() writes it.
std::optional<std::string> from_hex(std::string_view hex);

// Each of 32 bytes.
std::string sha256(std::string_view bytes);
std::string sha256_hex(std::string_view bytes);  // 64 digits
// From where the descriptor stands to the end. Error cancelled: `goes_on` said no, between two blocks.
Result<std::string> sha256_of_file(int fd, const std::function<bool()>& goes_on = nullptr);
std::string hmac_sha256(std::string_view key, std::string_view bytes);

// Whether this is the HMAC of these bytes; takes as long wherever it differs.
bool is_hmac_sha256(std::string_view hmac, std::string_view key, std::string_view bytes);

// Takes as long wherever they differ; their lengths are no secret.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace darkroom
