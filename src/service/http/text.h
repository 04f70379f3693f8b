// HTTP's small questions about text.
#pragma once

#include <optional>
#include <string_view>

namespace darkroom::http {

// Equal without regard to the case of ASCII letters.
bool same_word(std::string_view a, std::string_view b);
// A whole number of decimal digits alone.
std::optional<unsigned long long> whole_number(std::string_view text);

}  // namespace darkroom::http
