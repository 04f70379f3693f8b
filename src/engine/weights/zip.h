// The part of the zip format that torch.save() writes: stored entries, zip64.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "base/error.h"

namespace darkroom::engine {

struct ZipEntry {
  std::span<const std::byte> data;
  bool stored = true;  // not compressed; the data of any other entry is empty
};

// Entries by name; a name that stands twice is refused. Errors: corrupt_data.
Result<std::map<std::string, ZipEntry, std::less<>>> read_zip(std::span<const std::byte> file, const std::string& name);

}  // namespace darkroom::engine
