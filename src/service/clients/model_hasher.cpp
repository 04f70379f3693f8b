#include "service/clients/model_hasher.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "service/blobs/hash.h"

namespace darkroom {
namespace {

constexpr std::chrono::seconds kBetweenTellings(2);

// Processor and disk, of this thread alone.
void go_last() {
  constexpr int kLeastUrgent = 19;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kLeastUrgent);
  constexpr int kWhoProcess = 1;  // linux/ioprio.h, which not every libc's headers come with
  constexpr int kIdleClass = 3 << 13;
  ::syscall(SYS_ioprio_set, kWhoProcess, 0, kIdleClass);
}

}  // namespace

ModelHasher::ModelHasher(std::filesystem::path file, std::function<void()> on_computed)
    : file_(std::move(file)), on_computed_(std::move(on_computed)) {
  if (auto loaded = ModelHashes::load(file_)) hashes_ = std::move(*loaded);
  thread_ = std::thread([this] { run(); });
}

ModelHasher::~ModelHasher() {
  {
    const std::scoped_lock lock(mutex_);
    ends_ = true;
  }
  wanted_.notify_one();
  thread_.join();
}

std::map<std::string, std::string> ModelHasher::known(const std::vector<std::string>& models) {
  std::map<std::string, std::string> found;
  const std::scoped_lock lock(mutex_);
  for (const std::string& model : models) {
    if (auto hash = hashes_.find(model)) {
      found.emplace(model, std::move(*hash));
    } else if (stamp_of(model) && queued_.insert(model).second) {  // a folder has none
      queue_.push_back(model);
    }
  }
  wanted_.notify_one();
  return found;
}

void ModelHasher::run() {
  go_last();
  std::unique_lock lock(mutex_);
  while (true) {
    wanted_.wait(lock, [this] { return ends_ || !queue_.empty(); });
    if (ends_) return;
    const std::string model = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const bool is_new = compute(model);
    lock.lock();
    queued_.erase(model);
    untold_ = untold_ || is_new;
    // Of thousands of small files not each is worth a look at all of them.
    const auto now = std::chrono::steady_clock::now();
    if (!untold_ || (!queue_.empty() && now - told_ < kBetweenTellings)) continue;
    untold_ = false;
    told_ = now;
    if (queue_.empty()) hashes_.forget_missing();
    // Where this fails they are computed again after the next start, which is no harm but the time.
    static_cast<void>(hashes_.save(file_));
    lock.unlock();
    on_computed_();
    lock.lock();
  }
}

bool ModelHasher::compute(const std::string& model) {
  const std::optional<FileStamp> before = stamp_of(model);
  const Fd fd(::open(model.c_str(), O_RDONLY | O_CLOEXEC));
  if (!before || !fd) return false;
  // Read once, so that it should not push out what others read again and again.
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_NOREUSE);
  const Result<std::string> digest = sha256_of_file(fd.get(), [this] { return !ends_.load(); });
  // One that changes meanwhile is being written still; whoever looks for models next asks again.
  if (!digest || stamp_of(model) != before) return false;
  const std::scoped_lock lock(mutex_);
  hashes_.set(model, *before, to_hex(*digest));
  return true;
}

}  // namespace darkroom
