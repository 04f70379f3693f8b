// The weights of one module of a model: a path into a WeightSource, so that the object tree is the checkpoint tree.
//   const WeightScope w(source);
//   HostTensor k = (w / "down_blocks" / 1 / "resnets" / 0 / "conv1").take("weight", {640, 320, 3, 3});
// A wrong file fails where the tensor is taken, with the tensor's path.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/weight_source.h"

namespace darkroom::engine {

class WeightScope {
 public:
  explicit WeightScope(WeightSourcePtr source);

  // A scope inside this one; all scopes of a root share the record of what was taken.
  WeightScope operator/(std::string_view name) const;
  WeightScope operator/(std::int64_t index) const;

  // The tensor of exactly this shape. Throws Failure(corrupt_data) naming tensor, both shapes and file.
  HostTensor take(std::string_view name, const Shape& expected) const;
  bool has(std::string_view name) const;
  std::optional<Shape> shape_of(std::string_view name) const;

  const std::string& path() const { return path_; }  // "down_blocks.1.resnets.0", empty at the root
  const WeightSource& source() const { return *source_; }

  // Names of the whole source that no scope of this root has taken, sorted.
  std::vector<std::string> not_taken() const;

 private:
  struct Record;
  std::string full_name(std::string_view name) const;

  WeightSourcePtr source_;
  std::string path_;
  std::shared_ptr<Record> taken_;
};

}  // namespace darkroom::engine
