#include "engine/weights/weight_scope.h"

#include <mutex>
#include <set>
#include <utility>

namespace darkroom::engine {

// Models may load their parts in parallel.
struct WeightScope::Record {
  std::mutex mutex;
  std::set<std::string, std::less<>> names;
};

WeightScope::WeightScope(WeightSourcePtr source) : source_(std::move(source)), taken_(std::make_shared<Record>()) {}

std::string WeightScope::full_name(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

WeightScope WeightScope::operator/(std::string_view name) const {
  WeightScope inner = *this;
  inner.path_ = full_name(name);
  return inner;
}

WeightScope WeightScope::operator/(std::int64_t index) const { return *this / std::string_view(std::to_string(index)); }

HostTensor WeightScope::take(std::string_view name, const Shape& expected) const {
  const std::string full = full_name(name);
  const auto info = source_->info(full);
  if (!info) {
    throw_failure(ErrorCode::corrupt_data, "{}: expected {}, the file has no such tensor ({})", full, expected.str(),
                  source_->describe());
  }
  if (info->shape != expected) {
    throw_failure(ErrorCode::corrupt_data, "{}: expected {}, file has {} ({})", full, expected.str(), info->shape.str(),
                  source_->describe());
  }
  std::optional<HostTensor> tensor = source_->find(full);
  DR_ASSERT(tensor.has_value());
  const std::scoped_lock lock(taken_->mutex);
  taken_->names.insert(full);
  return *std::move(tensor);
}

bool WeightScope::has(std::string_view name) const { return source_->contains(full_name(name)); }

std::optional<Shape> WeightScope::shape_of(std::string_view name) const {
  const auto info = source_->info(full_name(name));
  return info ? std::optional(info->shape) : std::nullopt;
}

std::vector<std::string> WeightScope::not_taken() const {
  const std::scoped_lock lock(taken_->mutex);
  std::vector<std::string> left;
  for (std::string& name : source_->names()) {
    if (!taken_->names.contains(name)) left.push_back(std::move(name));
  }
  return left;
}

}  // namespace darkroom::engine
