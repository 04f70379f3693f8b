// Blobs as files of a folder, spread over 256 folders by the first byte of their names.
#pragma once

#include <memory>

#include "service/blobs/blob_store.h"

namespace darkroom {

class FolderBlobStore final : public BlobStore {
 public:
  // Makes the folder if it is missing. What is given to put() must lie on the same disk.
  static Result<std::unique_ptr<FolderBlobStore>> open(const std::filesystem::path& root);

  Result<StoredBlob> put(const std::filesystem::path& file) override;
  Result<std::string> get(const std::string& id, std::uint64_t offset, std::uint64_t length) override;
  Result<void> remove(const std::string& id) override;
  Result<std::vector<std::string>> list() override;

  // Where a blob lies. `id` must be one that put() gave.
  std::filesystem::path file(const std::string& id) const;

 private:
  explicit FolderBlobStore(std::filesystem::path root) : root_(std::move(root)) {}

  std::filesystem::path root_;
};

}  // namespace darkroom
