#include "base/near_match.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/text.h"

namespace darkroom {
namespace {

// Levenshtein's distance, a row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

constexpr std::size_t kLongestName = 200;  // bytes; the distance costs their product

}  // namespace

std::vector<std::string> near_matches(std::string_view name, std::span<const std::string> candidates) {
  if (name.empty() || name.size() > kLongestName) return {};
  const std::string wanted = to_lower(name);
  std::vector<std::pair<std::size_t, std::string>> found;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kLongestName) continue;
    const std::string other = to_lower(candidate);
    const std::size_t distance = edit_distance(wanted, other);
    const bool inside = wanted.size() >= 3 && other.find(wanted) != std::string::npos;
    if (inside || distance <= std::max(wanted.size(), other.size()) / 3) found.emplace_back(distance, candidate);
  }
  std::sort(found.begin(), found.end());
  if (found.size() > 3) found.resize(3);
  std::vector<std::string> names;
  for (auto& [distance, candidate] : found) names.push_back(std::move(candidate));
  return names;
}

std::string did_you_mean(std::string_view name, std::span<const std::string> candidates) {
  const std::vector<std::string> near = near_matches(name, candidates);
  return near.empty() ? "" : "; did you mean " + join_with_or(near) + "?";
}

}  // namespace darkroom
