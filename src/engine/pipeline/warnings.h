// What a job's answer warns of.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace darkroom::engine {

// Several networks and passes may find the same thing: it is said once.
inline void add_once(std::vector<std::string>& warnings, std::string warning) {
  if (std::ranges::find(warnings, warning) == warnings.end()) warnings.push_back(std::move(warning));
}

}  // namespace darkroom::engine
