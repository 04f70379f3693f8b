// The learned numbers of a layer: where they stand in the checkpoint, and their form in a backend. A parameter can be
// laid out again from another source, which is how an adapter is put on and taken off without touching the rest.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

// A tensor of the checkpoint and the shape that the network needs.
struct TensorName {
  std::string name;
  Shape shape;
};

class Parameter {
 public:
  explicit Parameter(std::vector<TensorName> parts) : parts_(std::move(parts)) {}
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;
  virtual ~Parameter() = default;

  // Throws Failure{corrupt_data} naming the tensor where it is missing or has another shape.
  virtual void load(const WeightSource& source) = 0;
  virtual std::size_t bytes() const = 0;

  const std::vector<TensorName>& parts() const { return parts_; }
  // The layer's path, for messages: "down_blocks.1.resnets.0.conv1".
  std::string layer() const;

 private:
  std::vector<TensorName> parts_;
};

// A weight that activations are multiplied with.
class Matrix final : public Parameter {
 public:
  Matrix(Backend& backend, std::vector<TensorName> parts, WeightUse use, DType compute)
      : Parameter(std::move(parts)), backend_(backend), use_(use), compute_(compute) {}
  void load(const WeightSource& source) override;
  // 0 after a load() that failed.
  std::size_t bytes() const override { return packed_ ? packed_->bytes() : 0; }
  const PackedWeight& packed() const { return *packed_; }

 private:
  Backend& backend_;
  WeightUse use_;
  DType compute_;
  std::shared_ptr<const PackedWeight> packed_;
};

// A bias or a norm's weight: float32, its parts side by side.
class Vector final : public Parameter {
 public:
  Vector(Backend& backend, std::vector<TensorName> parts) : Parameter(std::move(parts)), backend_(backend) {}
  void load(const WeightSource& source) override;
  std::size_t bytes() const override { return static_cast<std::size_t>(values_.elements()) * sizeof(float); }
  const Tensor& values() const { return values_; }

 private:
  Backend& backend_;
  Tensor values_;
};

// How convolutions pad pictures: with zeros, or with the opposite edge, for seamless tiling.
struct Wrap {
  bool x = false;
  bool y = false;
};

// What every layer of one network shares: its parameters, for laying them out again, and its watch.
class Network {
 public:
  explicit Network(Backend& backend) : backend_(backend) {}
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  Backend& backend() const { return backend_; }
  std::size_t bytes() const;
  // Lays out again, from `source`, the parameters that have a part for which `touched` is true. Returns how many.
  std::size_t reload(const WeightSource& source, const std::function<bool(const std::string&)>& touched);

  void add(std::shared_ptr<Parameter> parameter) { parameters_.push_back(std::move(parameter)); }

  // Runs `pass`, and if its result is not finite runs it again with every layer's result looked at, to throw
  // Failure{internal} with the name of the first layer that gave NaN or infinity.
  Tensor finite(std::string_view network, const std::function<Tensor()>& pass);
  // Called by each layer with its result.
  const Tensor& watch(const Parameter& parameter, const Tensor& result) const {
    if (watching_) look(parameter, result);
    return result;
  }

  Wrap wrap;  // of the running job

  // Multiplications and additions that passes asked for, counted without tricks; for benchmarks.
  std::uint64_t flops() const { return flops_; }
  void count(std::uint64_t flops) { flops_ += flops; }

 private:
  static void look(const Parameter& parameter, const Tensor& result);

  Backend& backend_;
  std::vector<std::shared_ptr<Parameter>> parameters_;
  bool watching_ = false;
  std::uint64_t flops_ = 0;
};

// A place in a checkpoint to load layers from: `loader / "down_blocks" / 0 / "conv1"`.
class Loader {
 public:
  Loader(Network& network, const WeightSource& source, DType compute)
      : network_(&network), source_(&source), compute_(compute) {}

  Loader operator/(std::string_view name) const;
  Loader operator/(int index) const { return *this / std::to_string(index); }
  // The same place, for layers that would suffer from 8-bit products: bfloat16 where the rest computes in int8.
  Loader sensitive() const;

  DType compute() const { return compute_; }
  DType activation_type() const { return network_->backend().activation_type(compute_); }
  Network& network() const { return *network_; }
  bool has(std::string_view name) const { return source_->contains(full_name(name)); }
  std::string full_name(std::string_view name) const {
    return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
  }
  // The shape that the file has, or an empty one.
  Shape shape_of(std::string_view name) const;

  std::shared_ptr<Matrix> matrix(std::vector<TensorName> parts, WeightUse use) const;
  std::shared_ptr<Vector> vector(std::vector<TensorName> parts) const;
  HostTensor take(std::string_view name, const Shape& shape) const;

 private:
  Network* network_;
  const WeightSource* source_;
  DType compute_;
  std::string path_;
};

}  // namespace darkroom::engine
