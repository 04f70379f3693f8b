#include "base/atomic_file.h"

#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"

namespace darkroom {
namespace {

ErrorCode code_of(int error) {
  switch (error) {
    case ENOENT:
      return ErrorCode::not_found;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:  // past the limit on a file's size
      return ErrorCode::overloaded;
    case EIO:
      return ErrorCode::internal;
    default:
      return ErrorCode::invalid_argument;
  }
}

std::atomic<unsigned> next_name{0};

// A file that is deleted unless it was given its name. Where the file system can, it has none before: if this process
// dies, nothing is left.
class Temporary {
 public:
  explicit Temporary(const std::filesystem::path& directory) : directory_(directory) {
    if (::access(kOpenFiles, X_OK) == 0) fd_ = Fd{::open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666)};
    if (fd_) return;
    name_free([&](const char* name) {
      fd_ = Fd{::open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)};
      return static_cast<bool>(fd_);
    });
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (!named_.empty()) ::unlink(named_.c_str());
  }

  // Each says whether it worked; errno tells why not.
  bool opened() const { return static_cast<bool>(fd_); }
  bool write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return ::fsync(fd_.get()) == 0;
  }
  bool rename_to(const std::filesystem::path& path) {
    if (named_.empty()) {
      if (link_to(path.c_str())) return true;
      // What stands there can only be replaced by a file that has a name.
      if (errno != EEXIST || !name_free([&](const char* name) { return link_to(name); })) return false;
    }
    if (::rename(named_.c_str(), path.c_str()) != 0) return false;
    named_.clear();
    return true;
  }

 private:
  static constexpr const char* kOpenFiles = "/proc/self/fd";

  bool link_to(const char* name) const {
    const std::string self = fmt::format("{}/{}", kOpenFiles, fd_.get());
    return ::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
  }

  // take(name) with names of this process's until one is not in use: some may be left from a process that died.
  template <class Take>
  bool name_free(const Take& take) {
    do {
      named_ = directory_ / fmt::format(".darkroom-{}-{}.tmp", ::getpid(), next_name.fetch_add(1));
      if (take(named_.c_str())) return true;
    } while (errno == EEXIST);
    named_.clear();
    return false;
  }

  std::filesystem::path directory_;
  std::filesystem::path named_;  // where it lies until it has its name; empty: nowhere
  Fd fd_;
};

}  // namespace

Result<void> write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  const std::filesystem::path directory = path.has_parent_path() ? path.parent_path() : ".";
  Temporary file(directory);
  if (!file.opened() || !file.write(bytes) || !file.rename_to(path)) {
    const int error = errno;
    return fail(code_of(error), "cannot write {}: {}", path.string(), std::generic_category().message(error));
  }
  // The rename itself must outlive a power cut. The file is in place: a directory that cannot be flushed is no failure.
  const Fd parent{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (parent) ::fsync(parent.get());
  return {};
}

}  // namespace darkroom
