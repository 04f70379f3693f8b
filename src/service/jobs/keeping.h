// From what a worker has written to what is kept.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "service/blobs/blob_store.h"
#include "service/store/job.h"

namespace darkroom {

struct KeptPictures {
  std::vector<Picture> pictures;
  std::vector<Picture> control_maps;
};

// Moves an attempt's files, which lie in `folder` whatever the worker says, into the store: all of them or none.
Result<KeptPictures> keep_pictures(const std::filesystem::path& folder, const Generated& generated, BlobStore& blobs);

// Where a request's save_path lies.
struct SavePlan {
  std::filesystem::path stem;  // folder and name without an ending
  std::string extension;       // ".png"

  std::filesystem::path picture(std::size_t index, std::size_t count) const;
  std::filesystem::path control_map(std::size_t index) const;
};

// Nothing if the request has none; the same rules as darkroom-worker's. Error invalid_argument: it leads out of the
// directory.
Result<std::optional<SavePlan>> plan_saving(const std::filesystem::path& outputs, const GenerationSpec& spec,
                                            const std::string& job);

// Writes a kept picture there too; makes the folders that are missing.
Result<void> save_copy(BlobStore& blobs, const Picture& picture, const std::filesystem::path& path);

}  // namespace darkroom
