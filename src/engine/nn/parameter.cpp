#include "engine/nn/parameter.h"

#include <algorithm>

#include "base/error.h"
#include "engine/backend/ops.h"

namespace darkroom::engine {
namespace {

// What a source gave, held against the layer's wish; a 1×1 convolution's shape may become the layer's own.
void check_tensor(const WeightSource& source, const TensorName& wanted, HostTensor& tensor) {
  // 1×1 convolutions and linear layers hold the same numbers; files use either shape.
  const bool same = tensor.shape == wanted.shape ||
                    (wanted.shape.rank() == 2 && tensor.shape == Shape{wanted.shape[0], wanted.shape[1], 1, 1}) ||
                    (wanted.shape.rank() == 4 && wanted.shape[2] == 1 && wanted.shape[3] == 1 &&
                     tensor.shape == Shape{wanted.shape[0], wanted.shape[1]});
  if (!same) {
    throw_failure(ErrorCode::corrupt_data, "{}: expected {}, file has {} ({})", wanted.name, wanted.shape.str(),
                  tensor.shape.str(), source.describe());
  }
  if (!is_floating(tensor.dtype)) {
    throw_failure(ErrorCode::corrupt_data, "{}: expected a floating type, file has {} ({})", wanted.name,
                  to_string(tensor.dtype), source.describe());
  }
  tensor.shape = wanted.shape;
}

template <class Found>
Found found_or_throw(std::optional<Found> found, const WeightSource& source, const TensorName& wanted) {
  if (!found) {
    throw_failure(ErrorCode::corrupt_data, "{}: missing in {} (expected {})", wanted.name, source.describe(),
                  wanted.shape.str());
  }
  return *std::move(found);
}

HostTensor take_tensor(const WeightSource& source, const TensorName& wanted) {
  HostTensor tensor = found_or_throw(source.find(wanted.name), source, wanted);
  check_tensor(source, wanted, tensor);
  return tensor;
}

TensorSum take_sum(const WeightSource& source, const TensorName& wanted) {
  TensorSum sum = found_or_throw(source.find_sum(wanted.name), source, wanted);
  check_tensor(source, wanted, sum.tensor);
  return sum;
}

}  // namespace

std::string Parameter::layer() const {
  const std::string& name = parts_.front().name;
  return name.substr(0, name.rfind('.'));
}

void Matrix::load(const WeightSource& source) {
  packed_.reset();  // before the new one is made: a switch of adapters needs no second copy
  PackRequest request{.use = use_, .compute = compute_, .parts = {}};
  for (const TensorName& part : parts()) {
    const bool takes_sums = use_ != WeightUse::conv2d_upsample2x;
    request.parts.push_back(takes_sums ? take_sum(source, part) : TensorSum{take_tensor(source, part), {}});
  }
  packed_ = backend_.pack(request);
  for (const TensorSum& part : request.parts) release_pages(part.tensor);
}

void Vector::load(const WeightSource& source) {
  std::vector<float> values;
  for (const TensorName& name : parts()) {
    const HostTensor part = take_tensor(source, name);
    const std::size_t begin = values.size();
    values.resize(begin + static_cast<std::size_t>(part.elements()));
    to_float(part.dtype, part.data, values.data() + begin, values.size() - begin);
  }
  values_ = from_host(backend_, values, {static_cast<std::int64_t>(values.size())});
}

std::size_t Network::bytes() const {
  std::size_t total = 0;
  for (const auto& parameter : parameters_) total += parameter->bytes();
  return total;
}

std::size_t Network::reload(const WeightSource& source, const std::function<bool(const std::string&)>& touched) {
  std::size_t count = 0;
  for (const auto& parameter : parameters_) {
    if (!std::ranges::any_of(parameter->parts(), [&](const TensorName& part) { return touched(part.name); })) continue;
    parameter->load(source);
    ++count;
  }
  return count;
}

Tensor Network::finite(std::string_view network, const std::function<Tensor()>& pass) {
  Tensor result = pass();
  if (all_finite(result)) return result;
  watching_ = true;
  try {
    result = pass();
  } catch (...) {
    watching_ = false;
    throw;
  }
  watching_ = false;
  throw_failure(ErrorCode::internal, "{}: NaN or infinity in its result", network);
}

void Network::look(const Parameter& parameter, const Tensor& result) {
  if (all_finite(result)) return;
  throw_failure(ErrorCode::internal, "{}: NaN or infinity in this layer's result ({} {})", parameter.layer(),
                to_string(result.dtype()), result.shape().str());
}

Loader Loader::operator/(std::string_view name) const {
  Loader below = *this;
  below.path_ = full_name(name);
  return below;
}

Loader Loader::sensitive() const {
  Loader other = *this;
  other.compute_ = activation_type();
  return other;
}

Shape Loader::shape_of(std::string_view name) const {
  const std::optional<TensorInfo> info = source_->info(full_name(name));
  return info ? info->shape : Shape{};
}

std::shared_ptr<Matrix> Loader::matrix(std::vector<TensorName> parts, WeightUse use) const {
  auto parameter = std::make_shared<Matrix>(network_->backend(), std::move(parts), use, compute_);
  parameter->load(*source_);
  network_->add(parameter);
  return parameter;
}

std::shared_ptr<Vector> Loader::vector(std::vector<TensorName> parts) const {
  auto parameter = std::make_shared<Vector>(network_->backend(), std::move(parts));
  parameter->load(*source_);
  network_->add(parameter);
  return parameter;
}

HostTensor Loader::take(std::string_view name, const Shape& shape) const {
  return take_tensor(*source_, {full_name(name), shape});
}

}  // namespace darkroom::engine
