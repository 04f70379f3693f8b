#include "worker/artifacts.h"

#include <system_error>

#include <unistd.h>

#include "base/atomic_file.h"
#include "base/inside.h"
#include "base/text.h"
#include "engine/image/codec.h"
#include "metadata/infotext.h"
#include "metadata/model_hashes.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

// The specification's default for save_path, written relative to a directory that it does not name.
constexpr std::string_view kDefaultSavePath = "outputs/";

// A request id as a file name: other characters become '_'.
std::string file_name_of(const std::string& request_id) {
  std::string name;
  for (const char c : request_id) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    name += plain ? c : '_';
  }
  return name;
}

Result<engine::Bytes> encode(const OutputChoice& output, const engine::Image& image, const std::string& parameters) {
  switch (output.format) {
    case ImageFormat::png:
      return engine::encode_png(image, parameters);
    case ImageFormat::jpeg:
      return engine::encode_jpeg(image, output.quality, parameters);
    case ImageFormat::webp:
      return engine::encode_webp(image, output.quality, parameters);
  }
  DR_ASSERT(false);
}

// "": not computed yet, or a folder, which has none.
std::string sha256_of_model(const fs::path& hashes, const std::string& model) {
  if (hashes.empty()) return "";
  const auto known = ModelHashes::load(hashes);
  return known ? known->find(model).value_or("") : "";
}

Result<void> write_picture(const fs::path& path, const GenerationSpec& spec, const engine::GenerationResult& result,
                           const engine::GeneratedPicture& picture, const std::string& model_sha256,
                           GeneratedImage& written) {
  engine::Image image;
  image.width = picture.width;
  image.height = picture.height;
  image.channels = 3;
  image.pixels = picture.rgb;
  const std::string parameters =
      spec.output.embed_parameters ? parameters_text(spec, picture, result.scheduler, model_sha256) : std::string();
  const Result<engine::Bytes> bytes = encode(spec.output, image, parameters);
  if (!bytes) return tl::unexpected(bytes.error());
  if (Result<void> done = write_file_atomically(path, *bytes); !done) return done;
  written = {.path = path.string(),
             .filename = path.filename().string(),
             .seed = picture.seed,
             .width = picture.width,
             .height = picture.height,
             .format = spec.output.format,
             .bytes = bytes->size()};
  return {};
}

fs::path control_map_path(const fs::path& first, const GenerationSpec& spec, std::size_t index) {
  std::string stem = first.stem().string();
  if (spec.batch_size > 1) stem.resize(stem.size() - std::string_view("-0").size());
  return first.parent_path() / fmt::format("{}-control-{}.png", stem, index);
}

Result<void> write_png(const fs::path& path, const engine::Image& image) {
  return engine::encode_png(image).and_then(
      [&](const engine::Bytes& bytes) { return write_file_atomically(path, bytes); });
}

}  // namespace

OutputDirectory::OutputDirectory(const std::string& directory, ModelDirectories::Reach reach)
    : root_(resolved(directory)), reach_(reach) {}

Result<std::vector<fs::path>> OutputDirectory::plan(const GenerationSpec& spec, const std::string& request_id) const {
  const std::string& asked = spec.output.path;
  fs::path path = root_;
  if (!asked.empty() && asked != kDefaultSavePath) path = resolved(root_ / asked);  // an absolute one replaces the root
  const bool inside = is_inside(path, root_);
  if (!inside && reach_ == ModelDirectories::Reach::inside) {
    return fail(ErrorCode::invalid_argument, "save_path \"{}\" leads out of the outputs directory {}", asked,
                root_.string());
  }
  const std::string extension(spec.output.format == ImageFormat::jpeg ? "jpg" : name_of(spec.output.format));
  std::error_code error;
  const bool is_folder = path == root_ || asked.ends_with('/') || fs::is_directory(path, error);
  if (is_folder) path /= file_name_of(request_id) + "." + extension;

  const fs::path folder = path.parent_path();
  if (inside) fs::create_directories(folder, error);
  if (!fs::is_directory(folder, error)) {
    return fail(ErrorCode::invalid_argument, "cannot write {}: there is no directory {}", path.string(),
                folder.string());
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    return fail(ErrorCode::invalid_argument, "cannot write {}: {} is not writable", path.string(), folder.string());
  }
  if (spec.batch_size == 1) return std::vector{path};
  std::vector<fs::path> paths;
  for (int i = 0; i < spec.batch_size; ++i) {
    paths.push_back(folder / fmt::format("{}-{}{}", path.stem().string(), i, path.extension().string()));
  }
  return paths;
}

Result<fs::path> OutputDirectory::find_input(const std::string& path) const {
  const bool anywhere = reach_ == ModelDirectories::Reach::anywhere;
  const fs::path found = anywhere ? resolved(path) : resolved(root_ / path);
  if (!anywhere && !is_inside(found, root_)) {
    return fail(ErrorCode::invalid_argument, "\"{}\" leads out of the outputs directory {}", path, root_.string());
  }
  std::error_code error;
  if (!fs::is_regular_file(found, error)) return fail(ErrorCode::not_found, "there is no picture {}", found.string());
  return found;
}

Result<Artifacts> write_artifacts(const std::vector<fs::path>& paths, const GenerationSpec& spec,
                                  const engine::GenerationResult& result, const fs::path& hashes) {
  DR_ASSERT(paths.size() == result.pictures.size());
  const std::string model_sha256 = sha256_of_model(hashes, spec.model);
  Artifacts artifacts;
  Result<void> done;
  for (std::size_t i = 0; done && i < paths.size(); ++i) {
    GeneratedImage image;
    done = write_picture(paths[i], spec, result, result.pictures[i], model_sha256, image);
    if (done) artifacts.pictures.push_back(std::move(image));
  }
  const std::size_t maps = spec.output.save_control_maps ? result.control_maps.size() : 0;
  for (std::size_t i = 0; done && i < maps; ++i) {
    const fs::path path = control_map_path(paths.front(), spec, i);
    done = write_png(path, result.control_maps[i]);
    if (done) artifacts.control_maps.push_back(path.string());
  }
  if (done) return artifacts;
  std::error_code ignored;
  for (const GeneratedImage& image : artifacts.pictures) fs::remove(image.path, ignored);
  for (const std::string& path : artifacts.control_maps) fs::remove(path, ignored);
  return tl::unexpected(done.error());
}

std::string parameters_text(const GenerationSpec& spec, const engine::GeneratedPicture& picture,
                            const std::string& scheduler, const std::string& model_sha256) {
  if (only_enlarges(spec)) {
    const Infotext enlarged{.prompt = "",
                            .negative_prompt = "",
                            .settings = {{"Postprocess upscale by", fmt::to_string(spec.upscale->factor)},
                                         {"Postprocess upscaler", fs::path(spec.upscale->model).stem().string()},
                                         {"Version", "darkroom " DARKROOM_VERSION}}};
    return to_infotext(enlarged);
  }
  // What the prompt made; an upscaled picture is larger.
  const int width = spec.upscale ? spec.width : picture.width;
  const int height = spec.upscale ? spec.height : picture.height;
  Infotext info{.prompt = spec.prompt,
                .negative_prompt = spec.negative_prompt.value_or(""),
                .settings = {{"Steps", fmt::to_string(spec.steps)},
                             {"Sampler", scheduler},
                             {"CFG scale", fmt::to_string(spec.guidance_scale)},
                             {"Seed", fmt::to_string(picture.seed)},
                             {"Size", fmt::format("{}x{}", width, height)}}};
  constexpr std::size_t kShortHash = 10;  // digits, as the webui has it
  if (!model_sha256.empty()) info.settings.emplace_back("Model hash", model_sha256.substr(0, kShortHash));
  info.settings.emplace_back("Model", fs::path(spec.model).stem().string());
  if (!spec.vae.empty()) info.settings.emplace_back("VAE", fs::path(spec.vae).filename().string());
  if (spec.init_image) info.settings.emplace_back("Denoising strength", fmt::to_string(spec.strength));
  // compat(webui): counts from the last layer, and SDXL's penultimate one is 2.
  if (spec.clip_skip > 0) info.settings.emplace_back("Clip skip", fmt::to_string(spec.clip_skip + 2));
  if (spec.upscale) {
    info.settings.emplace_back("Postprocess upscale by", fmt::to_string(spec.upscale->factor));
    info.settings.emplace_back("Postprocess upscaler", fs::path(spec.upscale->model).stem().string());
  }
  info.settings.emplace_back("Version", "darkroom " DARKROOM_VERSION);
  return to_infotext(info);
}

}  // namespace darkroom
