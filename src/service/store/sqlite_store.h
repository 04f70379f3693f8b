// Jobs in an SQLite file. A lock file beside it proves that no other node lives, so that what was running when the last
// one died is queued again at once.
#pragma once

#include <filesystem>
#include <memory>

#include "base/error.h"
#include "service/store/job_store.h"

namespace darkroom {

// Makes the file if there is none. Errors: conflict (another service has it), corrupt_data (no database, or a newer
// version's), invalid_argument (the path).
Result<std::unique_ptr<JobStore>> open_sqlite_store(const std::filesystem::path& file);

}  // namespace darkroom
