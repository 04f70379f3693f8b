#include "service/clients/model_listing.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kUntilWorkersAnswer(500);
constexpr int kMaxDepth = 6;  // below a models directory: deeper than a worker looks

// Changes with every name, size and time of change below the directories. Asked by looking and not told by the kernel:
// models often lie on other machines, whose changes no kernel tells.
std::size_t look_of(const std::vector<std::string>& directories) {
  std::size_t look = 0;
  for (const std::string& directory : directories) {
    std::error_code error;
    constexpr auto kOptions =
        fs::directory_options::follow_directory_symlink | fs::directory_options::skip_permission_denied;
    fs::recursive_directory_iterator at(directory, kOptions, error);
    for (const fs::recursive_directory_iterator end; !error && at != end; at.increment(error)) {
      std::error_code ignored;
      if (at.depth() >= kMaxDepth) at.disable_recursion_pending();
      const auto changed = at->last_write_time(ignored).time_since_epoch().count();
      const std::uintmax_t bytes = at->is_regular_file(ignored) ? at->file_size(ignored) : 0;
      // A sum: directories tell their entries in any order.
      look += std::hash<std::string>()(fmt::format("{} {} {}", at->path().string(), changed, bytes));
    }
  }
  return look;
}

}  // namespace

ModelListing::ModelListing(Jobs& jobs, ModelListingOptions options)
    : jobs_(jobs), options_(std::move(options)), hasher_(options_.hashes, [this] { rebuild(); }) {
  watch_ = std::thread([this] { watch(); });
}

ModelListing::~ModelListing() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  watch_.join();
}

Result<ModelListing::Catalog> ModelListing::known() {
  {
    const std::scoped_lock lock(mutex_);
    if (known_) return known_;
  }
  return fresh();
}

Result<ModelListing::Catalog> ModelListing::fresh() {
  const Result<void> asked = ask_workers();
  const std::scoped_lock lock(mutex_);
  if (known_) return known_;
  return tl::unexpected(asked.error());
}

ModelListing::Catalog ModelListing::known_or_none() {
  return known().value_or(std::make_shared<const ModelCatalog>(std::vector<ModelEntry>()));
}

void ModelListing::look_now() {
  {
    const std::scoped_lock lock(mutex_);
    look_now_ = true;
  }
  changed_.notify_all();
}

Result<void> ModelListing::ask_workers() {
  auto entries = jobs_.models();  // waits: no lock is held
  if (!entries) return tl::unexpected(entries.error());
  {
    const std::scoped_lock lock(mutex_);
    entries_ = std::move(*entries);
  }
  rebuild();
  return {};
}

void ModelListing::rebuild() {
  const std::scoped_lock building(building_);
  std::vector<ModelEntry> entries;
  {
    const std::scoped_lock lock(mutex_);
    entries = entries_;
  }
  std::vector<std::string> paths;
  for (const ModelEntry& entry : entries) paths.push_back(entry.path);
  auto catalog = std::make_shared<const ModelCatalog>(entries, hasher_.known(paths));
  const std::scoped_lock lock(mutex_);
  known_ = std::move(catalog);
}

void ModelListing::watch() {
  std::size_t seen = 0;
  bool changed_before = false;
  std::chrono::milliseconds retry = kUntilWorkersAnswer;
  std::unique_lock lock(mutex_);
  while (!ends_) {
    const bool asked = std::exchange(look_now_, false);
    const bool nothing_known = known_ == nullptr;
    lock.unlock();
    const std::size_t look = look_of(options_.directories);
    bool is_answered = true;
    const bool changed = asked || nothing_known || look != seen;
    if (changed || changed_before) is_answered = ask_workers().has_value();
    // Asked once more at the next look: while no worker is there, what was last known is the answer.
    changed_before = changed;
    if (is_answered) seen = look;
    lock.lock();
    changed_.wait_for(lock, is_answered ? options_.look_every : retry, [this] { return ends_ || look_now_; });
    // A worker that takes long to look is not asked again and again.
    retry = is_answered ? kUntilWorkersAnswer : std::min(retry * 2, std::max(options_.look_every, kUntilWorkersAnswer));
  }
}

}  // namespace darkroom
