// AdaptedSource: the base's tensors with the changes of adapters added.
#include <algorithm>
#include <utility>

#include "engine/weights/lora.h"
#include "engine/weights/lora_formulas.h"

namespace darkroom::engine {
namespace {

HostTensor as_tensor(const FloatMatrix& values, const HostTensor& base) {
  HostTensor tensor = base;
  tensor.dtype = DType::f32;
  tensor.mapped = false;
  tensor.data = reinterpret_cast<const std::byte*>(values.row(0));
  tensor.owner = values.memory();
  return tensor;
}

// The row of a stack at which its part begins.
std::int64_t first_row(const WeightSource& base, const TensorChange& change) {
  std::int64_t row = 0;
  for (std::size_t i = 0; i < change.part; ++i) row += base.info(change.layer->places[i] + ".weight")->shape[0];
  return row;
}

}  // namespace

AdaptedSource::AdaptedSource(WeightSourcePtr base, AdapterTarget target, std::vector<WornLora> worn, int threads)
    : base_(std::move(base)), target_(target), worn_(std::move(worn)), threads_(threads) {}

std::vector<AdaptedSource::Step> AdaptedSource::steps(std::string_view name) const {
  std::vector<Step> steps;
  for (const WornLora& worn : worn_) {
    if (worn.strength == 0.0F) continue;
    for (const TensorChange& change : worn.lora->changes(target_, name)) steps.push_back({&change, worn.strength});
  }
  return steps;
}

// W of a layer; of one that stands for several, those stacked.
TensorRows AdaptedSource::base_rows(const AdapterLayer& layer) const {
  std::vector<HostTensor> places;
  for (const std::string& place : layer.places) places.push_back(*base_->find(place + ".weight"));
  return TensorRows(std::move(places));
}

std::optional<TensorSum> AdaptedSource::find_sum(std::string_view name) const {
  std::optional<HostTensor> base = base_->find(name);
  if (!base) return std::nullopt;
  std::vector<LowRankProduct> products;
  std::vector<Step> others;
  for (const Step& step : steps(name)) {
    const AdapterLayer& layer = *step.change->layer;
    if (!name.ends_with(".bias") && is_plain_product(layer) && layer.places.size() == 1) {
      const auto& factor = std::get<Factor>(layer.change);
      products.push_back({.left = factor.left, .right = *factor.right, .scale = step.strength * layer.scale});
    } else {
      others.push_back(step);
    }
  }
  if (!others.empty()) {
    base = as_tensor(name.ends_with(".bias") ? changed_bias(*base, others) : changed_weight(*base, others), *base);
  }
  return TensorSum{*std::move(base), std::move(products)};
}

// base plus changes that are not plain products.
FloatMatrix AdaptedSource::changed_weight(const HostTensor& base, const std::vector<Step>& steps) const {
  struct Ready {
    WeightChange change;
    std::int64_t first_row;
    float strength;
  };
  std::vector<Ready> ready;
  for (const Step& step : steps) {
    const AdapterLayer& layer = *step.change->layer;
    ready.push_back({{layer, base_rows(layer), threads_}, first_row(*base_, *step.change), step.strength});
  }
  const TensorRows rows({base});
  FloatMatrix sum(matrix_rows(base), base.elements() / matrix_rows(base));
  for_chunks(sum.rows(), sum.columns(), 2, threads_, [&](const RowChunk& chunk) {
    const auto elements = static_cast<std::size_t>(chunk.count * sum.columns());
    float* to = sum.row(chunk.first);
    rows.read(chunk.first, chunk.count, to);
    for (const Ready& step : ready) {
      step.change.read(step.first_row + chunk.first, chunk.count, chunk.scratch[0], chunk.scratch[1]);
      add_scaled(step.strength, {chunk.scratch[0], elements}, {to, elements});
    }
  });
  return sum;
}

FloatMatrix AdaptedSource::changed_bias(const HostTensor& base, const std::vector<Step>& steps) const {
  FloatMatrix sum = read_matrix(base);
  for (const Step& step : steps) {
    const AdapterLayer& layer = *step.change->layer;
    const FloatMatrix bias = read_matrix(*layer.bias);
    const auto begin = static_cast<std::size_t>(first_row(*base_, *step.change));
    add_scaled(step.strength * layer.bias_scale, bias.values().subspan(begin, sum.values().size()), sum.values());
  }
  return sum;
}

std::optional<HostTensor> AdaptedSource::find(std::string_view name) const {
  std::optional<TensorSum> found = find_sum(name);
  if (!found) return std::nullopt;
  if (found->products.empty()) return found->tensor;
  return as_tensor(add_up(*found, threads_), found->tensor);
}

std::optional<TensorInfo> AdaptedSource::info(std::string_view name) const {
  std::optional<TensorInfo> info = base_->info(name);
  if (info && !steps(name).empty()) info->dtype = DType::f32;
  return info;
}

}  // namespace darkroom::engine
