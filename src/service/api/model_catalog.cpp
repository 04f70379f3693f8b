#include "service/api/model_catalog.h"

#include <algorithm>
#include <filesystem>

#include "base/near_match.h"
#include "base/text.h"

namespace darkroom {
namespace {

constexpr std::size_t kShortHash = 10;  // digits
constexpr std::string_view kModelExtensions[] = {".safetensors", ".ckpt", ".pt", ".pth", ".bin"};

// One spelling of all that may differ.
std::string folded(std::string_view name) {
  std::string result = to_lower(name);
  std::ranges::replace(result, '\\', '/');
  return result;
}

// "pony.safetensors [0123456789]" → "pony.safetensors"
std::string_view without_hash(std::string_view title) {
  const std::size_t bracket = title.rfind(" [");
  return title.ends_with(']') && bracket != std::string_view::npos ? title.substr(0, bracket) : title;
}

std::string_view without_extension(std::string_view file) {
  for (const std::string_view extension : kModelExtensions) {
    if (file.ends_with(extension)) return file.substr(0, file.size() - extension.size());
  }
  return file;
}

std::string_view last_part(std::string_view path) { return path.substr(path.rfind('/') + 1); }  // npos + 1 is 0

bool answers_to(const CatalogModel& model, std::string_view wanted) {
  const std::string file = folded(model.file);
  const std::string_view plain = without_hash(wanted);
  if (plain == file || plain == without_extension(file) || plain == folded(model.path)) return true;
  // The folder may be left out.
  if (plain == last_part(file) || plain == last_part(without_extension(file))) return true;
  const bool is_hash = !model.sha256.empty() && wanted.size() >= kShortHash;
  return is_hash && model.sha256.starts_with(wanted);
}

}  // namespace

std::string CatalogModel::stem() const { return std::string(last_part(name)); }

std::string CatalogModel::short_hash() const { return sha256.substr(0, kShortHash); }

std::string CatalogModel::title() const { return sha256.empty() ? file : fmt::format("{} [{}]", file, short_hash()); }

ModelCatalog::ModelCatalog(const std::vector<ModelEntry>& entries, const std::map<std::string, std::string>& hashes) {
  for (const ModelEntry& entry : entries) {
    const bool other_family = entry.kind == ModelRole::checkpoint && entry.family != "Stable Diffusion XL";
    if (!entry.problem.empty() || other_family) continue;
    const std::string extension = to_lower(std::filesystem::path(entry.path).extension().string());
    const bool is_file = std::ranges::find(kModelExtensions, extension) != std::end(kModelExtensions);
    const auto hash = hashes.find(entry.path);
    models_.push_back(
        {.name = entry.name,
         .file = is_file ? entry.name + std::filesystem::path(entry.path).extension().string() : entry.name,
         .path = entry.path,
         .sha256 = hash == hashes.end() ? "" : to_lower(hash->second),
         .role = entry.kind,
         .bytes = entry.bytes});
  }
}

std::vector<const CatalogModel*> ModelCatalog::of(ModelRole role) const {
  std::vector<const CatalogModel*> found;
  for (const CatalogModel& model : models_) {
    if (model.role == role) found.push_back(&model);
  }
  return found;
}

Result<const CatalogModel*> ModelCatalog::find(ModelRole role, std::string_view wanted) const {
  const std::string name = folded(wanted);
  std::vector<std::string> names;
  for (const CatalogModel* model : of(role)) {
    if (answers_to(*model, name)) return model;
    names.push_back(model->stem());
  }
  return fail(ErrorCode::not_found, "there is no {} \"{}\"{}", name_of(role), wanted.substr(0, 200),
              did_you_mean(without_extension(without_hash(wanted)), names));
}

}  // namespace darkroom
