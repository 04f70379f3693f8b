// Where a model's weights come from: an abstract map from name to tensor, and its plain implementations.
// A decorator (a key map, a merged LoRA) wraps another source and is one itself.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/tensor/tensor.h"

namespace darkroom::engine {

struct TensorInfo {
  DType dtype = DType::f32;
  Shape shape;
};

// Immutable, so safe to share between threads.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The tensor, or nothing where there is none. It may be computed (a transposition, a merge): ask once, keep it.
  virtual std::optional<HostTensor> find(std::string_view name) const = 0;
  // The same, where a product of small matrices is the last thing to be added: for who reads the tensor once anyway.
  virtual std::optional<TensorSum> find_sum(std::string_view name) const;
  // What find() would give, without computing it.
  virtual std::optional<TensorInfo> info(std::string_view name) const = 0;
  // Every name that find() knows, sorted.
  virtual std::vector<std::string> names() const = 0;
  // What messages call it: usually the file.
  virtual std::string describe() const = 0;

  bool contains(std::string_view name) const { return info(name).has_value(); }
};

using WeightSourcePtr = std::shared_ptr<const WeightSource>;

// Tensors by name, as one or more files hold them.
class TensorMap final : public WeightSource {
 public:
  // Error corrupt_data where two tensors have one name.
  static Result<std::shared_ptr<const TensorMap>> make(std::string description, std::vector<HostTensor> tensors);

  std::optional<HostTensor> find(std::string_view name) const override;
  std::optional<TensorInfo> info(std::string_view name) const override;
  std::vector<std::string> names() const override;
  std::string describe() const override { return description_; }

 private:
  std::string description_;
  std::map<std::string, HostTensor, std::less<>> tensors_;
};

// A view of another source under other names, with the few changes of form that layouts differ by.
class KeyMappedSource final : public WeightSource {
 public:
  struct Entry {
    std::string source;  // name in the wrapped source
    // Part `part` of `parts` equal ones of the first dimension: q, k and v of a fused in_proj_weight.
    std::int64_t part = 0;
    std::int64_t parts = 1;
    bool transpose = false;      // of two dimensions
    bool drop_trailing = false;  // a 1×1 convolution's [C,C,1,1] seen as [C,C]
  };
  using Entries = std::map<std::string, Entry, std::less<>>;

  // Every entry must fit its source's shape: corrupt_data if not.
  static Result<std::shared_ptr<const KeyMappedSource>> make(WeightSourcePtr source, Entries entries);

  std::optional<HostTensor> find(std::string_view name) const override;
  std::optional<TensorInfo> info(std::string_view name) const override;
  std::vector<std::string> names() const override;
  std::string describe() const override { return source_->describe(); }

 private:
  WeightSourcePtr source_;
  Entries entries_;
};

}  // namespace darkroom::engine
