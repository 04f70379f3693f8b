#include "engine/pipeline/model_cache.h"

#include <algorithm>
#include <chrono>
#include <system_error>

namespace darkroom::engine {
namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void mix(std::size_t& stamp, std::size_t value) { stamp = (stamp ^ value) * 0x100000001B3; }  // FNV-1a's step

void mix_file(std::size_t& stamp, const std::filesystem::path& path) {
  std::error_code ignored;
  mix(stamp, std::filesystem::hash_value(path));
  mix(stamp, static_cast<std::size_t>(std::filesystem::last_write_time(path, ignored).time_since_epoch().count()));
  mix(stamp, static_cast<std::size_t>(std::filesystem::file_size(path, ignored)));
}

}  // namespace

std::size_t model_stamp(const std::filesystem::path& path) {
  std::size_t stamp = 0;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    mix_file(stamp, path);
    return stamp;
  }
  std::vector<std::filesystem::path> files;
  for (auto entry = std::filesystem::recursive_directory_iterator(path, error);
       !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored)) files.push_back(entry->path());
  }
  std::ranges::sort(files);
  for (const std::filesystem::path& file : files) mix_file(stamp, file);
  return stamp;
}

ModelCache::Entry* ModelCache::find(const ModelKey& key) {
  const auto found = std::ranges::find(entries_, key, &Entry::key);
  if (found == entries_.end()) return nullptr;
  if (found->stamp != model_stamp(key.path)) {
    entries_.erase(found);
    return nullptr;
  }
  found->last_used = now_seconds();
  entries_.splice(entries_.begin(), entries_, found);
  return &entries_.front();
}

std::shared_ptr<const LaidOutModel> ModelCache::peek(ModelRole role, const std::filesystem::path& path) const {
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.key.role == role && entry.key.path == path; });
  return found == entries_.end() ? nullptr : found->model;
}

void ModelCache::keep(const ModelKey& key, std::size_t stamp, std::shared_ptr<LaidOutModel> model) {
  entries_.push_front({.key = key, .stamp = stamp, .model = std::move(model), .last_used = now_seconds()});
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
