// A program that a test starts, its output collected.
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/subprocess.h"

namespace darkroom {

inline const std::filesystem::path kBin = std::filesystem::path(DARKROOM_BINARY_DIR) / "bin";

struct Outcome {
  std::string output;  // standard output and standard error together
  ExitStatus status;
};

// Everything that comes until the end of the file.
std::string read_to_end(int fd);

// Runs `darkroom ARGUMENTS`, with fake-worker for a worker.
Subprocess start_darkroom(const std::vector<std::string>& arguments);
Outcome outcome(Subprocess& process);
// Where a `darkroom serve` listens, once it says so; "": it ended before.
std::string url_of_service(const Subprocess& service);

}  // namespace darkroom
