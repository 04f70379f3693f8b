// AdaptedSource: the base's tensors with the changes of adapters added.
#include <algorithm>
#include <mutex>
#include <utility>

#include "engine/weights/lora.h"
#include "engine/weights/lora_formulas.h"

namespace darkroom::engine {
namespace {

// Σ strength·scale·up·down of several layers, as one product: the up matrices side by side, the down ones stacked.
class JoinedProducts {
 public:
  JoinedProducts(std::int64_t rows, std::int64_t columns) : rows_(rows), columns_(columns) {}

  void add(const AdapterLayer& layer, float strength) {
    factors_.push_back({&std::get<Factor>(layer.change), strength * layer.scale});
    depth_ += factors_.back().factor->right->shape[0];
  }

  FloatMatrix left() const {
    FloatMatrix joined(rows_, depth_);
    std::int64_t begin = 0;
    for (const Scaled& scaled : factors_) {
      const FloatMatrix one = read_matrix(scaled.factor->left);
      for (std::int64_t row = 0; row < rows_; ++row) {
        const float* from = one.row(row);
        std::transform(from, from + one.columns(), joined.row(row) + begin,
                       [&](float value) { return scaled.scale * value; });
      }
      begin += one.columns();
    }
    return joined;
  }

  FloatMatrix right() const {
    FloatMatrix joined(depth_, columns_);
    std::int64_t begin = 0;
    for (const Scaled& scaled : factors_) {
      const HostTensor& tensor = *scaled.factor->right;
      to_float(tensor.dtype, tensor.data, joined.row(begin), static_cast<std::size_t>(tensor.elements()));
      begin += tensor.shape[0];
    }
    return joined;
  }

 private:
  struct Scaled {
    const Factor* factor;
    float scale;
  };
  std::int64_t rows_;
  std::int64_t columns_;
  std::int64_t depth_ = 0;
  std::vector<Scaled> factors_;
};

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

// The memory of merged tensors, handed on from one to the next: the system's fresh pages would cost more than the
// merging.
class AdaptedSource::Memory : public std::enable_shared_from_this<Memory> {
 public:
  std::shared_ptr<float[]> take(std::int64_t count) {
    Block block = take_spare();
    if (block.count < count) block = {count, std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(count))};
    const std::int64_t size = block.count;
    return {block.values.release(), [memory = shared_from_this(), size](float* values) {
              memory->give_back({size, std::unique_ptr<float[]>(values)});
            }};
  }

 private:
  struct Block {
    std::int64_t count = 0;
    std::unique_ptr<float[]> values;
  };
  Block take_spare() {
    const std::lock_guard lock(mutex_);
    return std::exchange(spare_, {});
  }
  void give_back(Block block) {
    const std::lock_guard lock(mutex_);
    if (block.count > spare_.count) std::swap(spare_, block);
  }

  std::mutex mutex_;
  Block spare_;  // the largest that was given back
};

AdaptedSource::AdaptedSource(WeightSourcePtr base, AdapterTarget target, std::vector<WornLora> worn, int threads)
    : base_(std::move(base)),
      target_(target),
      worn_(std::move(worn)),
      threads_(threads),
      memory_(std::make_shared<Memory>()) {}

std::vector<AdaptedSource::Step> AdaptedSource::steps(std::string_view name) const {
  std::vector<Step> steps;
  for (const WornLora& worn : worn_) {
    if (worn.strength == 0.0F) continue;
    for (const TensorChange& change : worn.lora->changes(target_, name)) steps.push_back({&change, worn.strength});
  }
  return steps;
}

// W of a layer; of one that stands for several, those stacked.
FloatMatrix AdaptedSource::base_weight(const AdapterLayer& layer) const {
  FloatMatrix stacked(layer.shape.out, layer.shape.columns());
  std::int64_t begin = 0;
  for (const std::string& place : layer.places) {
    const HostTensor tensor = *base_->find(place + ".weight");
    to_float(tensor.dtype, tensor.data, stacked.row(begin), static_cast<std::size_t>(tensor.elements()));
    begin += tensor.shape[0];
  }
  return stacked;
}

void AdaptedSource::add_weight(const Step& step, FloatMatrix& weight) const {
  const AdapterLayer& layer = *step.change->layer;
  const FloatMatrix base = needs_base(layer) ? base_weight(layer) : FloatMatrix();
  const FloatMatrix change = weight_change(layer, base, threads_);
  const auto begin = static_cast<std::size_t>(first_row(*base_, *step.change) * change.columns());
  add_scaled(step.strength, change.values().subspan(begin, weight.values().size()), weight.values(), threads_);
}

std::optional<HostTensor> AdaptedSource::find(std::string_view name) const {
  std::optional<HostTensor> base = base_->find(name);
  const std::vector<Step> steps = base ? this->steps(name) : std::vector<Step>();
  if (steps.empty()) return base;

  const std::int64_t rows = base->shape[0];
  const bool is_bias = name.ends_with(".bias");
  const std::int64_t columns = base->elements() / rows;
  JoinedProducts products(rows, columns);
  std::vector<Step> others;
  for (const Step& step : steps) {
    const AdapterLayer& layer = *step.change->layer;
    if (!is_bias && is_plain_product(layer) && layer.places.size() == 1) {
      products.add(layer, step.strength);
    } else {
      others.push_back(step);
    }
  }
  FloatMatrix sum(rows, columns, memory_->take(rows * columns));
  sum_with_product(*base, products.left(), products.right(), sum, threads_);
  release_pages(*base);
  for (const Step& step : others) {
    if (!is_bias) {
      add_weight(step, sum);
      continue;
    }
    const AdapterLayer& layer = *step.change->layer;
    const FloatMatrix bias = read_matrix(*layer.bias);
    const auto begin = static_cast<std::size_t>(first_row(*base_, *step.change));
    add_scaled(step.strength * layer.bias_scale, bias.values().subspan(begin, sum.values().size()), sum.values(), 1);
  }
  return as_tensor(sum, *base);
}

std::optional<TensorInfo> AdaptedSource::info(std::string_view name) const {
  std::optional<TensorInfo> info = base_->info(name);
  if (info && !steps(name).empty()) info->dtype = DType::f32;
  return info;
}

}  // namespace darkroom::engine
