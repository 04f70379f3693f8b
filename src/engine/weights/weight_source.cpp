#include "engine/weights/weight_source.h"

#include <array>
#include <cstring>
#include <utility>

namespace darkroom::engine {

namespace {

Shape mapped_shape(const Shape& shape, const KeyMappedSource::Entry& entry) {
  std::array<std::int64_t, kMaxRank> dims{};
  int rank = shape.rank();
  for (int i = 0; i < rank; ++i) dims[static_cast<std::size_t>(i)] = shape[i];
  if (entry.parts > 1) dims[0] /= entry.parts;
  if (entry.transpose) std::swap(dims[0], dims[1]);
  if (entry.drop_trailing && rank == 4) rank = 2;
  return Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(rank)));
}

// [rows, columns] to [columns, rows], in memory of its own.
HostTensor transposed(const HostTensor& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.shape[0]);
  const auto columns = static_cast<std::size_t>(tensor.shape[1]);
  const std::size_t element = size_of(tensor.dtype);
  auto data = std::make_shared<std::vector<std::byte>>(tensor.bytes());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      std::memcpy(data->data() + (c * rows + r) * element, tensor.data + (r * columns + c) * element, element);
    }
  }
  HostTensor result = tensor;
  result.shape = {tensor.shape[1], tensor.shape[0]};
  result.data = data->data();
  result.owner = std::move(data);
  result.mapped = false;
  return result;
}

}  // namespace

std::optional<TensorSum> WeightSource::find_sum(std::string_view name) const {
  std::optional<HostTensor> tensor = find(name);
  if (!tensor) return std::nullopt;
  return TensorSum{*std::move(tensor), {}};
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): its elements are moved
Result<std::shared_ptr<const TensorMap>> TensorMap::make(std::string description, std::vector<HostTensor> tensors) {
  auto map = std::make_shared<TensorMap>();
  map->description_ = std::move(description);
  for (HostTensor& tensor : tensors) {
    std::string name = tensor.name;
    if (const auto [at, added] = map->tensors_.try_emplace(std::move(name), std::move(tensor)); !added) {
      return fail(ErrorCode::corrupt_data, "{}: tensor '{}' stands twice", map->description_, at->first);
    }
  }
  return map;
}

std::optional<HostTensor> TensorMap::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<TensorInfo> TensorMap::info(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? std::nullopt : std::optional(TensorInfo{found->second.dtype, found->second.shape});
}

std::vector<std::string> TensorMap::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

Result<std::shared_ptr<const KeyMappedSource>> KeyMappedSource::make(WeightSourcePtr source, Entries entries) {
  for (const auto& [name, entry] : entries) {
    const auto info = source->info(entry.source);
    if (!info) return fail(ErrorCode::corrupt_data, "{}: no tensor '{}'", source->describe(), entry.source);
    const Shape& shape = info->shape;
    if (entry.parts > 1 && (shape.rank() < 1 || shape[0] % entry.parts != 0)) {
      return fail(ErrorCode::corrupt_data, "{}: tensor '{}' {} does not split into {} parts", source->describe(),
                  entry.source, shape.str(), entry.parts);
    }
    if (entry.transpose && shape.rank() != 2) {
      return fail(ErrorCode::corrupt_data, "{}: tensor '{}' {} is not a matrix", source->describe(), entry.source,
                  shape.str());
    }
    if (entry.drop_trailing && shape.rank() != 2 && !(shape.rank() == 4 && shape[2] == 1 && shape[3] == 1)) {
      return fail(ErrorCode::corrupt_data, "{}: tensor '{}' {} is neither a matrix nor a 1×1 convolution",
                  source->describe(), entry.source, shape.str());
    }
  }
  auto mapped = std::make_shared<KeyMappedSource>();
  mapped->source_ = std::move(source);
  mapped->entries_ = std::move(entries);
  return mapped;
}

std::optional<HostTensor> KeyMappedSource::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  const Entry& entry = found->second;
  std::optional<HostTensor> tensor = source_->find(entry.source);
  DR_ASSERT(tensor.has_value());
  if (entry.transpose) return transposed(*tensor);
  tensor->shape = mapped_shape(tensor->shape, entry);
  tensor->data += static_cast<std::size_t>(entry.part) * tensor->bytes();
  return tensor;
}

std::optional<TensorInfo> KeyMappedSource::info(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return std::nullopt;
  std::optional<TensorInfo> info = source_->info(found->second.source);
  DR_ASSERT(info.has_value());
  info->shape = mapped_shape(info->shape, found->second);
  return info;
}

std::vector<std::string> KeyMappedSource::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

}  // namespace darkroom::engine
