// Small questions about text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace darkroom {

// ASCII letters only; other bytes stay.
std::string to_lower(std::string_view text);

// Without spaces and tabs at both ends.
std::string_view trimmed(std::string_view text);

// "a", "a or b", "a, b or c".
std::string join_with_or(std::span<const std::string> words);

// Byte offset of the first byte that is not UTF-8 (overlong forms, surrogates and code points past U+10FFFF are not).
std::optional<std::size_t> first_invalid_utf8(std::string_view text);

// The parts between separators; an empty text has none.
std::vector<std::string_view> split(std::string_view text, char separator);

std::string encode_base64(std::string_view bytes);
// RFC 4648, padded, no line breaks. Error invalid_argument with the offset.
Result<std::string> decode_base64(std::string_view text);

// The double that prints as this float does: 0.7F → 0.7, as a request had it, so that 10·0.7 steps are 7.
double as_written(float value);

}  // namespace darkroom
