// Files that are there whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "base/error.h"

namespace darkroom {

// Writes to a file without a name, or beside `path` where the file system has no such, flushes to the disk, then gives
// it the name; when it fails, what stood at `path` stands and nothing else is left. Errors name the path and the
// system's words: not_found (no such directory), overloaded (the disk, a quota or the limit on a file's size),
// invalid_argument (not allowed, a directory of that name).
Result<void> write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace darkroom
