#include "worker/model_directories.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <utility>

#include <fmt/ranges.h>

#include "base/inside.h"
#include "base/near_match.h"
#include "base/text.h"
#include "engine/tensor/dtype.h"
#include "engine/weights/inspect.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 4;  // folders below a role's folder

// Each role's folders: ours, ComfyUI's, the webui's.
std::span<const std::string_view> folders_of(ModelRole role) {
  static constexpr std::array<std::string_view, 3> kCheckpoint = {"checkpoints", "diffusers", "Stable-diffusion"};
  static constexpr std::array<std::string_view, 2> kLora = {"loras", "Lora"};
  static constexpr std::array<std::string_view, 3> kControlnet = {"controlnets", "controlnet", "ControlNet"};
  static constexpr std::array<std::string_view, 3> kVae = {"vaes", "vae", "VAE"};
  static constexpr std::array<std::string_view, 1> kEmbedding = {"embeddings"};
  static constexpr std::array<std::string_view, 4> kUpscaler = {"upscalers", "upscale_models", "ESRGAN", "RealESRGAN"};
  switch (role) {
    case ModelRole::checkpoint:
      return kCheckpoint;
    case ModelRole::lora:
      return kLora;
    case ModelRole::controlnet:
      return kControlnet;
    case ModelRole::vae:
      return kVae;
    case ModelRole::embedding:
      return kEmbedding;
    case ModelRole::upscaler:
      return kUpscaler;
  }
  DR_ASSERT(false);
}

bool is_model_file(const fs::path& path) {
  static const std::set<std::string, std::less<>> kExtensions = {".safetensors", ".ckpt", ".pt", ".pth", ".bin"};
  return kExtensions.contains(to_lower(path.extension().string()));
}

std::string without_extension(const fs::path& path) {
  return is_model_file(path) ? fs::path(path).replace_extension().generic_string() : path.generic_string();
}

// The models below a folder, calling found(path). Models are not looked into, nor what cannot be read.
void walk(const fs::path& folder, int depth, auto& found) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    std::error_code ignored;
    if (entry.is_directory(ignored) && !engine::is_model_folder(entry.path())) {
      if (depth > 0) walk(entry.path(), depth - 1, found);
    } else if (entry.is_directory(ignored) || is_model_file(entry.path())) {
      found(entry.path());
    }
  }
}

std::optional<ModelRole> role_of(engine::FileKind kind) {
  using engine::FileKind;
  switch (kind) {
    case FileKind::checkpoint:
      return ModelRole::checkpoint;
    case FileKind::lora:
      return ModelRole::lora;
    case FileKind::controlnet:
      return ModelRole::controlnet;
    case FileKind::vae:
      return ModelRole::vae;
    case FileKind::embedding:
      return ModelRole::embedding;
    case FileKind::upscaler:
      return ModelRole::upscaler;
    case FileKind::unet:
    case FileKind::text_encoder:
    case FileKind::unknown:
      return std::nullopt;
  }
  DR_ASSERT(false);
}

}  // namespace

ModelDirectories::ModelDirectories(const std::vector<std::string>& directories, Reach reach) : reach_(reach) {
  for (const std::string& directory : directories) roots_.push_back(resolved(directory));
}

Result<fs::path> ModelDirectories::find(ModelRole role, const std::string& name) const {
  std::error_code ignored;
  if (reach_ == Reach::anywhere && fs::exists(name, ignored)) return resolved(name);

  const std::vector<Entry> entries = scan(role);
  const std::string wanted = without_extension(name);
  const fs::path absolute = fs::path(name).is_absolute() ? resolved(name) : fs::path();
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    const bool by_path = !absolute.empty() && entry.path == absolute;
    const bool by_name = entry.name == wanted || fs::path(entry.name).filename() == wanted;
    // "pony.ckpt" is not the file pony.safetensors.
    const bool same_file = !is_model_file(name) || fs::path(name).extension() == entry.path.extension();
    if (by_path || (by_name && same_file)) {
      if (entry.inside) return entry.path;
      return fail(ErrorCode::invalid_argument, "the {} \"{}\" is a symbolic link out of {}", name_of(role), name,
                  places());
    }
    if (entry.inside) names.push_back(entry.name);
  }
  const auto parts = fs::path(name);
  if (parts.is_absolute() || std::find(parts.begin(), parts.end(), "..") != parts.end()) {
    return fail(ErrorCode::invalid_argument, "\"{}\" leads out of {}", name, places());
  }
  return fail(ErrorCode::not_found, "there is no {} \"{}\" in {}{}", name_of(role), name, places(),
              did_you_mean(wanted, names));
}

Result<fs::path> ModelDirectories::find_by_word(ModelRole role, const std::string& word) const {
  std::vector<Entry> found = scan(role);
  std::erase_if(found, [&](const Entry& entry) {
    return !entry.inside || to_lower(entry.name).find(to_lower(word)) == std::string::npos;
  });
  if (found.size() == 1) return found.front().path;
  if (found.empty()) {
    return fail(ErrorCode::not_found, "no {} in {} has \"{}\" in its name", name_of(role), places(), word);
  }
  std::vector<std::string> names;
  for (const Entry& entry : found) names.push_back(entry.name);
  return fail(ErrorCode::invalid_argument, "several {}s have \"{}\" in their names: {}; name one of them",
              name_of(role), word, fmt::join(names, ", "));
}

std::vector<ModelEntry> ModelDirectories::list(std::optional<ModelRole> role) const {
  std::vector<ModelEntry> models;
  for (const Entry& entry : scan(role)) {
    if (!entry.inside) continue;
    ModelEntry model;
    model.name = entry.name;
    model.path = entry.path.string();
    const Result<engine::ModelSummary> summary = engine::inspect(entry.path);
    const std::optional<ModelRole> kind = entry.role ? entry.role
                                          : summary  ? role_of(summary->what.kind)
                                                     : std::nullopt;
    if (!kind || (role && kind != role)) continue;
    model.kind = *kind;
    if (summary) {
      model.format = to_string(summary->format);
      model.family = to_string(summary->what.family);
      model.bytes = summary->bytes;
      for (const auto& [dtype, bytes] : summary->dtypes) model.compute_types.emplace_back(to_string(dtype));
    } else {
      model.problem = summary.error().message;
    }
    models.push_back(std::move(model));
  }
  return models;
}

std::vector<std::string> ModelDirectories::missing() const {
  std::vector<std::string> missing;
  std::error_code ignored;
  for (const fs::path& root : roots_) {
    if (!fs::is_directory(root, ignored)) missing.push_back(root.string());
  }
  return missing;
}

std::vector<ModelDirectories::Entry> ModelDirectories::scan(std::optional<ModelRole> role) const {
  std::vector<Entry> entries;
  std::set<fs::path> seen;  // "vae" and "VAE" may be one folder
  for (const fs::path& root : roots_) {
    const auto scan_folder = [&](const fs::path& folder, std::optional<ModelRole> of, int depth) {
      auto found = [&](const fs::path& path) {
        fs::path real = resolved(path);
        const bool inside = reach_ == Reach::anywhere || is_inside(real, root);
        if (!seen.insert(real).second) return;
        entries.push_back({without_extension(path.lexically_relative(folder)), std::move(real), of, inside});
      };
      walk(folder, depth, found);
    };
    for (const auto& each : enum_names(ModelRole{})) {
      if (role && each.value != *role) continue;
      for (const std::string_view folder : folders_of(each.value)) scan_folder(root / folder, each.value, kMaxDepth);
    }
    scan_folder(root, std::nullopt, 0);
  }
  // Of one name the earlier directory counts, and in one directory the safer format.
  const auto key = [](const Entry& entry) {
    return std::pair(std::string_view(entry.name), entry.path.extension() != ".safetensors");
  };
  std::stable_sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) { return key(a) < key(b); });
  return entries;
}

std::string ModelDirectories::places() const {
  std::vector<std::string> names;
  for (const fs::path& root : roots_) names.push_back(root.string());
  return names.empty() ? "the models directories (there are none)" : join_with_or(names);
}

}  // namespace darkroom
