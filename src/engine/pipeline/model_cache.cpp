#include "engine/pipeline/model_cache.h"

#include <algorithm>
#include <chrono>
#include <system_error>

namespace darkroom::engine {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// When a file was last written; of a folder, when files came or went.
std::filesystem::file_time_type written(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::last_write_time(path, ignored);
}

}  // namespace

ModelCache::Entry* ModelCache::find(const ModelKey& key) {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found == entries_.end()) return nullptr;
  if (found->written != written(key.path)) {
    entries_.erase(found);
    return nullptr;
  }
  found->last_used = now_seconds();
  entries_.splice(entries_.begin(), entries_, found);
  return &entries_.front();
}

void ModelCache::keep(const ModelKey& key, std::shared_ptr<LaidOutModel> model) {
  entries_.push_front(
      {.key = key, .written = written(key.path), .model = std::move(model), .last_used = now_seconds()});
}

void ModelCache::make_room(std::uint64_t bytes) {
  std::uint64_t used = bytes;
  for (const Entry& entry : entries_) used += entry.model->bytes();
  for (auto entry = entries_.end(); used > budget_ && entry != entries_.begin();) {
    --entry;
    const bool last_used = bytes == 0 && entry == entries_.begin();
    if (last_used || entry->model.use_count() > 1) continue;  // held by the running job
    used -= entry->model->bytes();
    entry = entries_.erase(entry);
  }
}

std::size_t ModelCache::forget(const std::filesystem::path& path) {
  return entries_.remove_if([&](const Entry& entry) { return entry.key.path == path; });
}

std::vector<ModelCache::Kept> ModelCache::kept() const {
  std::vector<Kept> kept;
  for (const Entry& entry : entries_) {
    kept.push_back({.key = entry.key, .bytes = entry.model->bytes(), .last_used = entry.last_used});
  }
  return kept;
}

}  // namespace darkroom::engine
