#include "service/blobs/folder_blob_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/random.h"
#include "service/blobs/hash.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kIdDigits = 32;

bool is_id(std::string_view text) {
  return text.size() == kIdDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

tl::unexpected<Error> failure(std::string_view what, const fs::path& path, int error) {
  ErrorCode code = ErrorCode::invalid_argument;
  if (error == ENOENT) code = ErrorCode::not_found;
  if (error == ENOSPC || error == EDQUOT) code = ErrorCode::overloaded;
  if (error == EIO) code = ErrorCode::internal;
  return fail(code, "cannot {} {}: {}", what, path.string(), std::generic_category().message(error));
}

// A rename is on the disk once its folder is.
void flush_folder(const fs::path& folder) {
  const Fd fd{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (fd) ::fsync(fd.get());
}

}  // namespace

Result<std::unique_ptr<FolderBlobStore>> FolderBlobStore::open(const fs::path& root) {
  std::error_code error;
  fs::create_directories(root, error);
  if (error) return fail(ErrorCode::invalid_argument, "cannot make {}: {}", root.string(), error.message());
  return std::unique_ptr<FolderBlobStore>(new FolderBlobStore(root));
}

fs::path FolderBlobStore::file(const std::string& id) const {
  DR_ASSERT(is_id(id));
  return root_ / id.substr(0, 2) / id;
}

Result<StoredBlob> FolderBlobStore::put(const fs::path& file_given) {
  // No link may lead elsewhere: what wrote the file is not trusted.
  const Fd fd{::open(file_given.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
  if (!fd) return failure("open", file_given, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return failure("open", file_given, errno);
  if (!S_ISREG(status.st_mode)) return failure("keep", file_given, EINVAL);
  Result<std::string> digest = sha256_of_file(fd.get());
  if (!digest) return tl::unexpected(digest.error());
  if (::fsync(fd.get()) != 0) return failure("flush", file_given, errno);

  const StoredBlob blob{.id = fmt::format("{:016x}{:016x}", random_u64(), random_u64()),
                        .sha256 = to_hex(*digest),
                        .bytes = static_cast<std::uint64_t>(status.st_size)};
  const fs::path place = file(blob.id);
  std::error_code error;
  if (fs::create_directory(place.parent_path(), error)) flush_folder(root_);
  if (error) return failure("make", place.parent_path(), error.value());
  if (::rename(file_given.c_str(), place.c_str()) != 0) return failure("write", place, errno);
  flush_folder(place.parent_path());
  return blob;
}

Result<std::string> FolderBlobStore::get(const std::string& id, std::uint64_t offset, std::uint64_t length) {
  if (!is_id(id)) return fail(ErrorCode::not_found, "there is no blob {}", id);
  const fs::path path = file(id);
  const Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return failure("open", path, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return failure("open", path, errno);
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (offset >= size) return std::string();
  std::string bytes(std::min(length, size - offset), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(fd.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return failure("read", path, got < 0 ? errno : EIO);
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

Result<void> FolderBlobStore::remove(const std::string& id) {
  const fs::path path = file(id);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failure("remove", path, errno);
  return {};
}

Result<std::vector<std::string>> FolderBlobStore::list() {
  std::vector<std::string> ids;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(root_, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_id(name)) ids.push_back(name);
  }
  if (error) return fail(ErrorCode::internal, "cannot read {}: {}", root_.string(), error.message());
  return ids;
}

}  // namespace darkroom
