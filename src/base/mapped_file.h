// A file mapped read-only into memory, closed with its last owner.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

#include "base/error.h"

namespace darkroom {

class MappedFile {
 public:
  // Maps a regular file. Errors: not_found, invalid_argument (not a regular file), internal (the system's words).
  static Result<std::shared_ptr<const MappedFile>> open(const std::filesystem::path& path);

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  // For who is going to read all of it: what is touched from here on is read in pieces of megabytes and takes one page
  // where it took hundreds. In vain where the file system has no large pages.
  void use_large_pages() const;

 private:
  MappedFile() = default;
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace darkroom
