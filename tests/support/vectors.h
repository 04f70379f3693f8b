// The reference vectors: tensors of a safetensors file below tests/reference/vectors, as float32.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/weights/safetensors.h"

namespace darkroom::test {

struct Vector {
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

class Vectors {
 public:
  static Vectors open(const std::string& path) {
    const auto file = value_or_throw(
        engine::SafetensorsFile::open(std::string(DARKROOM_SOURCE_DIR) + "/tests/reference/vectors/" + path));
    Vectors vectors;
    for (const engine::HostTensor& tensor : file.tensors()) {
      Vector& vector = vectors.vectors_[tensor.name];
      vector.shape.assign(tensor.shape.dims().begin(), tensor.shape.dims().end());
      vector.values.resize(static_cast<std::size_t>(tensor.elements()));
      engine::to_float(tensor.dtype, tensor.data, vector.values.data(), vector.values.size());
    }
    return vectors;
  }

  bool has(const std::string& name) const { return vectors_.contains(name); }
  const Vector& get(const std::string& name) const {
    const auto found = vectors_.find(name);
    if (found == vectors_.end()) throw std::out_of_range("no vector named " + name);
    return found->second;
  }

 private:
  std::map<std::string, Vector> vectors_;
};

}  // namespace darkroom::test
