// Text out of a stranger's file, fit for a message.
#pragma once

#include <string>
#include <string_view>

namespace darkroom::engine {

// At most 100 characters, each outside of printable ASCII as "?".
inline std::string printable(std::string_view text) {
  constexpr std::size_t kMax = 100;
  std::string result;
  for (const char c : text.substr(0, kMax)) result.push_back(c >= ' ' && c <= '~' ? c : '?');
  if (text.size() > kMax) result += "...";
  return result;
}

}  // namespace darkroom::engine
