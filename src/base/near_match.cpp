#include "base/near_match.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/text.h"

namespace darkroom {
namespace {

// How many letters to insert, delete, replace or swap with their neighbour (optimal string alignment), a row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);  // row i - 2
  std::vector<std::size_t> above(b.size() + 1);   // row i - 1
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before.swap(above);
    above.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
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
