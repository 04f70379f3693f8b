// Files that are timed from the disk.
#pragma once

#include <filesystem>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"

namespace darkroom::bench {

// So that what reads the file next starts from the disk.
inline void forget_pages(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

inline void read_through(const std::filesystem::path& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> chunk(8U << 20U);
  while (::read(fd.get(), chunk.data(), chunk.size()) > 0) {
  }
}

}  // namespace darkroom::bench
