// JSON text to a value, strictly: a stranger's text, so nothing is forgiven and its depth is bounded.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace darkroom {

// Nothing that we read is nested deeper than some six levels.
inline constexpr int kMaxJsonDepth = 32;
// Of all kinds together. A value takes up to some hundred bytes, its text may be two: what a message costs in memory is
// bounded by this, not by its length.
inline constexpr int kMaxJsonValues = 1'000'000;

// Error invalid_argument with the byte offset: not JSON, not UTF-8, a key twice in one object, nested deeper than
// kMaxJsonDepth, more than kMaxJsonValues, a number past the double's range.
Result<nlohmann::json> parse_json(std::string_view text);

}  // namespace darkroom
