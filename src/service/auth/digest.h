// Hashing and comparing of secrets.
#pragma once

#include <string>
#include <string_view>

namespace darkroom {

// 64 hexadecimal digits. A key has 256 random bits: nobody can guess it back from its plain SHA-256, so it needs neither
// salt nor a slow hash, and a request costs a microsecond.
std::string sha256_hex(std::string_view bytes);

// Takes as long for texts that differ at once as for equal ones; their lengths are no secret.
bool equal_in_constant_time(std::string_view a, std::string_view b);

// "dk_" and 256 random bits in 43 characters that need no escaping anywhere.
std::string random_key(std::string_view prefix);

}  // namespace darkroom
