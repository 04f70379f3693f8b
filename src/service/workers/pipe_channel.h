// A worker that is a child process: JSON lines over its standard input and output.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "service/workers/worker_channel.h"

namespace darkroom {

// Errors as Subprocess::start().
Result<std::unique_ptr<WorkerChannel>> start_child(const std::filesystem::path& program,
                                                   const std::vector<std::string>& arguments, OnArrival on_arrival);

}  // namespace darkroom
