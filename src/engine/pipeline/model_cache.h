// Models that are laid out, kept by least recent use within a budget of bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "engine/pipeline/compute_types.h"
#include "spec/model_role.h"

namespace darkroom::engine {

class LaidOutModel {
 public:
  LaidOutModel() = default;
  LaidOutModel(const LaidOutModel&) = delete;
  LaidOutModel& operator=(const LaidOutModel&) = delete;
  virtual ~LaidOutModel() = default;
  virtual std::uint64_t bytes() const = 0;
};

// Of the names, times and sizes of all files of a model, a file or a folder: another one if any changed.
std::size_t model_stamp(const std::filesystem::path& path);

struct ModelKey {
  ModelRole role = ModelRole::checkpoint;
  std::filesystem::path path;
  ComputeTypes types;
  bool operator==(const ModelKey&) const = default;
};

class ModelCache {
 public:
  explicit ModelCache(std::uint64_t budget) : budget_(budget) {}

  // The model that is kept for `key`, or that `make` gives, which is kept. A file, or a folder of which a file, was
  // written since is read again. Room for `expected_bytes` is made first; models that somebody holds stay.
  template <class Model>
  std::shared_ptr<Model> get(const ModelKey& key, std::uint64_t expected_bytes,
                             const std::function<std::shared_ptr<Model>()>& make) {
    if (Entry* entry = find(key)) return std::static_pointer_cast<Model>(entry->model);
    make_room(expected_bytes);
    const std::size_t stamp = model_stamp(key.path);  // before: what is written meanwhile is read again
    std::shared_ptr<Model> model = make();
    keep(key, stamp, model);
    return model;
  }

  // A model of that file, in whatever types; null where none is kept.
  std::shared_ptr<const LaidOutModel> peek(ModelRole role, const std::filesystem::path& path) const;

  // Takes out what is beyond the budget once nobody holds it, but never the last model used.
  void trim() { make_room(0); }
  // How many models of that file there were.
  std::size_t forget(const std::filesystem::path& path);

  struct Kept {
    ModelKey key;
    std::uint64_t bytes = 0;
    double last_used = 0;  // seconds since the epoch
  };
  std::vector<Kept> kept() const;  // the most recently used first

 private:
  struct Entry {
    ModelKey key;
    std::size_t stamp = 0;
    std::shared_ptr<LaidOutModel> model;
    double last_used = 0;
  };
  Entry* find(const ModelKey& key);
  void keep(const ModelKey& key, std::size_t stamp, std::shared_ptr<LaidOutModel> model);
  void make_room(std::uint64_t bytes);

  std::uint64_t budget_;
  std::list<Entry> entries_;  // the most recently used first
};

}  // namespace darkroom::engine
