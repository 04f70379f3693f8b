// From what a worker has written to what is kept.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "service/blobs/blob_store.h"
#include "service/store/job.h"

namespace darkroom {

// Moves an attempt's pictures, which lie in `folder` whatever the worker says, into the store: all of them or none.
Result<std::vector<Picture>> keep_pictures(const std::filesystem::path& folder,
                                           const std::vector<GeneratedImage>& images, BlobStore& blobs);

// Where a request's save_path lies, one path a picture; the same rules as darkroom-worker's. Error invalid_argument: it
// leads out of the directory.
Result<std::vector<std::filesystem::path>> plan_saving(const std::filesystem::path& outputs, const GenerationSpec& spec,
                                                       const std::string& job);

}  // namespace darkroom
