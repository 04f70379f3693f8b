#include "engine/weights/weight_file.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <vector>

#include "base/mapped_file.h"
#include "engine/weights/json_file.h"
#include "engine/weights/pickle.h"

namespace darkroom::engine {

namespace fs = std::filesystem;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

namespace {

Result<WeightFile> open_sharded(const fs::path& index_path) {
  auto index = read_json_file(index_path);
  if (!index) return tl::unexpected(std::move(index.error()));
  const auto map = index->find("weight_map");
  if (map == index->end() || !map->is_object()) {
    return fail(ErrorCode::corrupt_data, "{}: no 'weight_map'", index_path.string());
  }
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->items()) {
    // A shard lies beside its index; a path out of the folder is an attack.
    if (!shard.is_string() || fs::path(shard.get<std::string>()).filename() != shard.get<std::string>() ||
        shard.get<std::string>().empty()) {
      return fail(ErrorCode::corrupt_data, "{}: '{}' is in {}, which is not a file name", index_path.string(), name,
                  shard.dump());
    }
    shards.insert(shard.get<std::string>());
  }

  WeightFile result;
  std::vector<HostTensor> tensors;
  for (const std::string& shard : shards) {
    auto file = SafetensorsFile::open(index_path.parent_path() / shard);
    if (!file) return tl::unexpected(std::move(file.error()));
    result.bytes += file->file_bytes();
    for (const HostTensor& tensor : file->tensors()) tensors.push_back(tensor);
  }
  std::set<std::string_view> present;
  for (const HostTensor& tensor : tensors) present.insert(tensor.name);
  for (const auto& [name, shard] : map->items()) {
    if (!present.contains(name)) {
      return fail(ErrorCode::corrupt_data, "{}: tensor '{}' is not in {}", index_path.string(), name, shard.dump());
    }
  }
  auto weights = TensorMap::make(index_path.string(), std::move(tensors));
  if (!weights) return tl::unexpected(std::move(weights.error()));
  result.weights = *std::move(weights);
  return result;
}

}  // namespace

Result<WeightFile> open_weight_file(const fs::path& path) {
  if (path.extension() == ".json") return open_sharded(path);
  auto mapped = MappedFile::open(path);
  if (!mapped) return tl::unexpected(std::move(mapped.error()));
  const std::span<const std::byte> bytes = (*mapped)->bytes();

  WeightFile result{.weights = {}, .metadata = {}, .bytes = bytes.size()};
  std::vector<HostTensor> tensors;
  if (is_torch_file(bytes)) {
    auto read = read_torch_file(bytes, *mapped, path.string());
    if (!read) return tl::unexpected(std::move(read.error()));
    (*mapped)->use_large_pages();  // as safetensors files do
    tensors = *std::move(read);
    result.format = FileFormat::pickle;
  } else {
    auto file = SafetensorsFile::open(*mapped);
    if (!file) return tl::unexpected(std::move(file.error()));
    tensors = file->tensors();
    result.metadata = file->metadata();
  }
  auto weights = TensorMap::make(path.string(), std::move(tensors));
  if (!weights) return tl::unexpected(std::move(weights.error()));
  result.weights = *std::move(weights);
  return result;
}

Result<WeightFile> open_weight_folder(const fs::path& folder, std::string_view stem, std::string_view variant) {
  std::vector<fs::path> tried;
  const auto add = [&](std::string_view v) {
    if (v.empty()) {
      tried.push_back(folder / fmt::format("{}.safetensors", stem));
      tried.push_back(folder / fmt::format("{}.safetensors.index.json", stem));
    } else {
      tried.push_back(folder / fmt::format("{}.{}.safetensors", stem, v));
      tried.push_back(folder / fmt::format("{}.safetensors.index.{}.json", stem, v));
    }
  };
  if (variant.empty()) {
    for (const std::string_view v : {"", "fp16", "bf16"}) add(v);
  } else {
    add(variant);
  }
  // transformers' older files have a stem of their own.
  const std::string_view older_stem = stem == "model" ? "pytorch_model" : stem;
  tried.push_back(
      folder / (variant.empty() ? fmt::format("{}.bin", older_stem) : fmt::format("{}.{}.bin", older_stem, variant)));
  for (const fs::path& path : tried) {
    if (is_file(path)) return open_weight_file(path);
  }

  if (variant.empty()) {
    std::vector<fs::path> others;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
      const std::string name = at->path().filename().string();
      if (name.starts_with(fmt::format("{}.", stem)) && name.ends_with(".safetensors")) others.push_back(at->path());
    }
    if (others.size() == 1) return open_weight_file(others.front());
    if (others.size() > 1) {
      return fail(ErrorCode::invalid_argument, "{}: {} variants of {}, none of them plain, fp16 or bf16",
                  folder.string(), others.size(), stem);
    }
  }
  return fail(ErrorCode::not_found, "no weights in {}: {} is missing", folder.string(),
              tried.front().filename().string());
}

}  // namespace darkroom::engine
