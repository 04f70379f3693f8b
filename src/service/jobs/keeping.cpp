#include "service/jobs/keeping.h"

#include <optional>
#include <span>
#include <system_error>
#include <utility>

#include "base/atomic_file.h"
#include "base/inside.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

// The specification's default for save_path, written relative to a directory that it does not name.
constexpr std::string_view kDefaultSavePath = "outputs/";

// expected: bytes, as the worker says; nothing: it says nothing.
Result<Picture> keep_picture(const fs::path& folder, const std::string& path, std::optional<std::uint64_t> expected,
                             BlobStore& blobs) {
  Result<StoredBlob> blob = blobs.put(folder / fs::path(path).filename());
  if (!blob) return tl::unexpected(blob.error());
  if (expected && blob->bytes != *expected) {
    // A worker that does not look whether it could write, on a disk that was full.
    [[maybe_unused]] const Result<void> removed = blobs.remove(blob->id);  // else the next start does it
    return fail(ErrorCode::internal, "the worker said that {} has {} bytes, it has {}",
                fs::path(path).filename().string(), *expected, blob->bytes);
  }
  return Picture{.blob = std::move(blob->id), .sha256 = std::move(blob->sha256), .bytes = blob->bytes};
}

Result<void> keep_all(const fs::path& folder, const Generated& generated, BlobStore& blobs, KeptPictures& kept) {
  for (const GeneratedImage& image : generated.generated_images) {
    Result<Picture> picture = keep_picture(folder, image.path, image.bytes, blobs);
    if (!picture) return tl::unexpected(picture.error());
    picture->format = image.format;
    picture->seed = image.seed;
    picture->width = image.width;
    picture->height = image.height;
    kept.pictures.push_back(std::move(*picture));
  }
  for (const std::string& path : generated.control_maps) {
    Result<Picture> map = keep_picture(folder, path, std::nullopt, blobs);
    if (!map) return tl::unexpected(map.error());
    kept.control_maps.push_back(std::move(*map));
  }
  return {};
}

}  // namespace

Result<KeptPictures> keep_pictures(const fs::path& folder, const Generated& generated, BlobStore& blobs) {
  KeptPictures kept;
  const Result<void> done = keep_all(folder, generated, blobs, kept);
  if (done) return kept;
  for (const std::vector<Picture>* pictures : {&kept.pictures, &kept.control_maps}) {
    for (const Picture& picture : *pictures) {
      [[maybe_unused]] const Result<void> removed = blobs.remove(picture.blob);  // else the next start does it
    }
  }
  return tl::unexpected(done.error());
}

fs::path SavePlan::picture(std::size_t index, std::size_t count) const {
  return stem.string() + (count == 1 ? "" : fmt::format("-{}", index)) + extension;
}

fs::path SavePlan::control_map(std::size_t index) const {
  return fmt::format("{}-control-{}.png", stem.string(), index);
}

Result<std::optional<SavePlan>> plan_saving(const fs::path& outputs, const GenerationSpec& spec,
                                            const std::string& job) {
  const std::string& asked = spec.output.path;
  if (asked.empty()) return std::nullopt;
  const fs::path root = resolved(outputs);
  fs::path path = asked == kDefaultSavePath ? root : resolved(root / asked);
  if (!is_inside(path, root)) {
    return fail(ErrorCode::invalid_argument, "save_path \"{}\" leads out of the outputs directory", asked);
  }
  std::error_code error;
  const std::string extension(spec.output.format == ImageFormat::jpeg ? "jpg" : name_of(spec.output.format));
  if (path == root || asked.ends_with('/') || fs::is_directory(path, error)) path /= job + "." + extension;
  return SavePlan{.stem = path.parent_path() / path.stem(), .extension = path.extension().string()};
}

Result<void> save_copy(BlobStore& blobs, const Picture& picture, const fs::path& path) {
  const Result<std::string> bytes = blobs.get(picture.blob, 0, picture.bytes);
  if (!bytes) return tl::unexpected(bytes.error());
  std::error_code ignored;  // the writing says it
  fs::create_directories(path.parent_path(), ignored);
  return write_file_atomically(path, std::as_bytes(std::span(*bytes)));
}

}  // namespace darkroom
