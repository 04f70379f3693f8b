#include "base/atomic_file.h"

#include <atomic>
#include <cerrno>
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

// A file that is deleted unless it was renamed.
class Temporary {
 public:
  explicit Temporary(const std::filesystem::path& directory) {
    static std::atomic<unsigned> counter{0};
    do {  // a name may be left from a process that died
      path_ = directory / fmt::format(".darkroom-{}-{}.tmp", ::getpid(), counter.fetch_add(1));
      fd_ = Fd{::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)};
    } while (!fd_ && errno == EEXIST);
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    if (fd_) ::unlink(path_.c_str());
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
    if (::rename(path_.c_str(), path.c_str()) != 0) return false;
    fd_.reset();
    return true;
  }

 private:
  std::filesystem::path path_;
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
