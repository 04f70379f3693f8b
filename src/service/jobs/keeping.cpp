#include "service/jobs/keeping.h"

#include "base/inside.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

// The specification's default for save_path, written relative to a directory that it does not name.
constexpr std::string_view kDefaultSavePath = "outputs/";

}  // namespace

Result<std::vector<Picture>> keep_pictures(const fs::path& folder, const std::vector<GeneratedImage>& images,
                                           BlobStore& blobs) {
  std::vector<Picture> pictures;
  for (const GeneratedImage& image : images) {
    const fs::path name = fs::path(image.path).filename();
    Result<StoredBlob> blob = blobs.put(folder / name);
    if (!blob) {
      for (const Picture& kept : pictures) {
        [[maybe_unused]] const Result<void> removed = blobs.remove(kept.blob);  // else the next start does it
      }
      return tl::unexpected(blob.error());
    }
    pictures.push_back({.blob = std::move(blob->id),
                        .sha256 = std::move(blob->sha256),
                        .bytes = blob->bytes,
                        .format = image.format,
                        .seed = image.seed,
                        .width = image.width,
                        .height = image.height,
                        .saved = {}});
  }
  return pictures;
}

Result<std::vector<fs::path>> plan_saving(const fs::path& outputs, const GenerationSpec& spec, const std::string& job) {
  const std::string& asked = spec.output.path;
  std::vector<fs::path> paths;
  if (asked.empty()) return paths;
  const fs::path root = resolved(outputs);
  fs::path path = asked == kDefaultSavePath ? root : resolved(root / asked);
  if (!is_inside(path, root)) {
    return fail(ErrorCode::invalid_argument, "save_path \"{}\" leads out of the outputs directory", asked);
  }
  std::error_code error;
  const std::string extension(spec.output.format == ImageFormat::jpeg ? "jpg" : name_of(spec.output.format));
  if (path == root || asked.ends_with('/') || fs::is_directory(path, error)) path /= job + "." + extension;
  if (spec.batch_size == 1) return std::vector{path};
  for (int i = 0; i < spec.batch_size; ++i) {
    paths.push_back(path.parent_path() / fmt::format("{}-{}{}", path.stem().string(), i, path.extension().string()));
  }
  return paths;
}

}  // namespace darkroom
