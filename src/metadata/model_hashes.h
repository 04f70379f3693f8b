// The SHA-256 of model files, kept in a file of JSON: computing one reads all of some gigabytes. An entry holds as long
// as the model's size and time of change are what they were.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "base/error.h"

namespace darkroom {

// What tells that a file is still the same.
struct FileStamp {
  std::uint64_t bytes = 0;
  std::int64_t changed = 0;  // nanoseconds since 1970

  bool operator==(const FileStamp&) const = default;
};

// Of a regular file, links followed; nothing: it is none, or not to be seen.
std::optional<FileStamp> stamp_of(const std::filesystem::path& file);

class ModelHashes {
 public:
  // A file that is not there is an empty one. Error: corrupt_data, not_found where it cannot be read.
  static Result<ModelHashes> load(const std::filesystem::path& file);

  // 64 lower-case digits; nothing: not known, or the file at `model` is another by now.
  std::optional<std::string> find(const std::filesystem::path& model) const;
  void set(const std::filesystem::path& model, const FileStamp& stamp, std::string sha256);
  // Drops what is not at its place any more.
  void forget_missing();
  // Whole or not at all. Errors as write_file_atomically().
  Result<void> save(const std::filesystem::path& file) const;

 private:
  struct Entry {
    FileStamp stamp;
    std::string sha256;
  };
  std::map<std::string, Entry> entries_;  // by path
};

}  // namespace darkroom
