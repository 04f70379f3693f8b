// A directory for a test's files that need not outlive a power cut: in memory where the system offers that, since a
// database that flushes every commit would spend the test's time waiting for a disk.
#pragma once

#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

namespace darkroom {

inline std::filesystem::path fast_directory(const std::string& name) {
  std::filesystem::path root = "/dev/shm";
  if (::access(root.c_str(), W_OK | X_OK) != 0) root = std::filesystem::temp_directory_path();
  return root / fmt::format("darkroom_{}_{}", name, ::getpid());
}

}  // namespace darkroom
