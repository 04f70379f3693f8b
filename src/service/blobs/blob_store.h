// Where finished pictures lie: bytes under a random name, whole or not at all, never changed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"

namespace darkroom {

struct StoredBlob {
  std::string id;      // 128 random bits, hexadecimal
  std::string sha256;  // hexadecimal
  std::uint64_t bytes = 0;
};

class BlobStore {
 public:
  BlobStore() = default;
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;
  virtual ~BlobStore() = default;

  // Takes the file over; it is gone from where it was. Once this answers, it is on the disk. Errors: invalid_argument
  // (no regular file, not writable), overloaded (the disk is full), not_found.
  virtual Result<StoredBlob> put(const std::filesystem::path& file) = 0;
  // `length` bytes from `offset`, fewer at the end. Error not_found.
  virtual Result<std::string> get(const std::string& id, std::uint64_t offset, std::uint64_t length) = 0;
  // One that is not there is removed already.
  virtual Result<void> remove(const std::string& id) = 0;
  virtual Result<std::vector<std::string>> list() = 0;
};

}  // namespace darkroom
