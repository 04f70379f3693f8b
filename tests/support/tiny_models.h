// The models of the reference vectors, made on first use in the build folder; safe among parallel test processes.
#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>

#include "base/error.h"
#include "base/fd.h"
#include "tools/model_writer.h"

namespace darkroom::test {

inline std::filesystem::path source_dir() { return DARKROOM_SOURCE_DIR; }
inline std::filesystem::path vectors_dir() { return source_dir() / "tests" / "reference" / "vectors"; }

// The folder of a model, or the file of a single-file one. Throws Failure if it cannot be made.
inline std::filesystem::path tiny_model(const std::string& name) {
  namespace fs = std::filesystem;
  const fs::path manifest = vectors_dir() / "models" / (name + ".json");
  const fs::path folder = fs::path(DARKROOM_BINARY_DIR) / "tiny-models";
  fs::path model = folder / (name.ends_with("-single-file") ? name + ".safetensors" : name);
  const fs::path done = folder / (name + ".done");
  fs::create_directories(folder);

  // The lock is the open file's and ends with it, whatever becomes of the process.
  const Fd lock(::open((folder / (name + ".lock")).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) throw_failure(ErrorCode::internal, "cannot lock {}", folder.string());
  const auto fresh = [&] { return fs::exists(done) && fs::last_write_time(done) >= fs::last_write_time(manifest); };
  if (fresh()) return model;
  fs::remove_all(model);
  if (auto written = tools::write_model(manifest, model); !written) throw Failure(written.error());
  const Fd marker(::open(done.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!marker) throw_failure(ErrorCode::internal, "cannot write {}", done.string());
  fs::last_write_time(done, fs::file_time_type::clock::now());
  return model;
}

}  // namespace darkroom::test
