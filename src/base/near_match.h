// What somebody may have meant: the candidates closest to a misspelt name.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace darkroom {

// At most three, the nearest first; none that differs in more than a third of its letters (case aside) and does not
// contain the name either.
std::vector<std::string> near_matches(std::string_view name, std::span<const std::string> candidates);

// "; did you mean a, b or c?", or nothing.
std::string did_you_mean(std::string_view name, std::span<const std::string> candidates);

}  // namespace darkroom
