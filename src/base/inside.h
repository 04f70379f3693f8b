// Whether a path stays inside a directory, symbolic links followed.
#pragma once

#include <filesystem>

namespace darkroom {

// The path with every link and dot resolved, as far as it exists.
inline std::filesystem::path resolved(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path result = std::filesystem::weakly_canonical(path, error);
  return error ? std::filesystem::absolute(path).lexically_normal() : result;
}

// Both resolved.
inline bool is_inside(const std::filesystem::path& path, const std::filesystem::path& directory) {
  const std::filesystem::path rest = path.lexically_relative(directory);
  return !rest.empty() && *rest.begin() != "..";
}

}  // namespace darkroom
