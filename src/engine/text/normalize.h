// What CLIP's tokenizer does to a text before it splits it: NFC, white space as one space, lower case.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace darkroom::engine {

enum class CharClass : std::uint8_t { space, letter, number, other };

// As the tokenizer's pattern sees it: \s, \p{L}, \p{N} and the rest.
CharClass class_of(char32_t code);

// The characters of a text. Error invalid_argument: not UTF-8, at byte N.
Result<std::vector<char32_t>> decode_utf8(std::string_view text);
// The text with U+FFFD for each byte that is not UTF-8 (a character cut in two): fit for messages.
std::string valid_utf8(std::string_view text);

// Linear in the text but for runs of combining marks, which are sorted.
// Error invalid_argument: not UTF-8, at byte N.
Result<std::vector<char32_t>> normalize(std::string_view text);

}  // namespace darkroom::engine
