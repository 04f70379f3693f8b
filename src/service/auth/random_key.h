// Secrets that nobody can guess.
#pragma once

#include <string>
#include <string_view>

namespace darkroom {

// The prefix ("dk_") and 256 random bits in 43 characters that need no escaping anywhere. They are kept as their plain
// SHA-256: nobody guesses such a key back from its hash, so it needs neither salt nor a slow hash.
std::string random_key(std::string_view prefix);

}  // namespace darkroom
