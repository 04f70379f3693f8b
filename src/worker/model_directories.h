// Finds models by name in the models directories: our own layout and, as they stand, the folders that ComfyUI and the
// webui keep. What lies outside of them is out of reach, whatever path or link a request brings.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "protocol/messages.h"
#include "spec/model_role.h"

namespace darkroom {

class ModelDirectories {
 public:
  // anywhere: the requests are the user's own, who may name any file of his.
  enum class Reach : std::uint8_t { inside, anywhere };

  ModelDirectories(const std::vector<std::string>& directories, Reach reach);

  // The absolute path of a model by its name (with or without folder and extension) or path.
  // Errors: not_found with near matches, invalid_argument for what leads out of the directories.
  Result<std::filesystem::path> find(ModelRole role, const std::string& name) const;
  // Of the models of a role the only one whose name contains the word ("canny"), for requests that name no model.
  Result<std::filesystem::path> find_by_word(ModelRole role, const std::string& word) const;
  // All of a role, or all, with what is in them, by name.
  std::vector<ModelEntry> list(std::optional<ModelRole> role) const;
  // Directories that do not exist.
  std::vector<std::string> missing() const;

 private:
  struct Entry {
    std::string name;               // below its folder, without extension: "sdxl/pony"
    std::filesystem::path path;     // resolved
    std::optional<ModelRole> role;  // by its folder; absent: it lies at the top
    bool inside = true;             // else a symbolic link leads out, where none may
  };
  std::vector<Entry> scan(std::optional<ModelRole> role) const;
  std::string places() const;

  std::vector<std::filesystem::path> roots_;  // resolved
  Reach reach_;
};

}  // namespace darkroom
