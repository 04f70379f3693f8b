// Small models and adapters for the tests of LoRA, and plain arithmetic in double to hold it against.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/weights/lora.h"

namespace darkroom::test {

using engine::AdapterTarget;
using engine::DType;
using engine::HostTensor;
using engine::Shape;

inline HostTensor tensor_of(std::string name, const Shape& shape, const std::vector<float>& values) {
  auto owned = std::make_shared<std::vector<float>>(values);
  const auto* data = reinterpret_cast<const std::byte*>(owned->data());
  return {.name = std::move(name), .dtype = DType::f32, .shape = shape, .data = data, .owner = std::move(owned)};
}

// Numbers between −1 and 1 that depend on the name alone.
inline HostTensor noise(const std::string& name, const Shape& shape) {
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  std::uint32_t state = 1;
  for (const char c : name) state = state * 31 + static_cast<unsigned char>(c);
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * (1.0F / 8388608.0F) - 1.0F;
  }
  return tensor_of(name, shape, values);
}

inline engine::WeightSourcePtr source_of(std::vector<HostTensor> tensors,
                                         const std::string& name = "test.safetensors") {
  return value_or_throw(engine::TensorMap::make(name, std::move(tensors)));
}

// A matrix of doubles, [rows][columns]; a convolution's columns are channel by channel, its taps side by side.
using Rows = std::vector<std::vector<double>>;

inline Rows rows_of(const HostTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  engine::to_float(tensor.dtype, tensor.data, values.data(), values.size());
  const auto count = static_cast<std::size_t>(tensor.shape.rank() == 0 ? 1 : tensor.shape[0]);
  const std::size_t columns = values.size() / count;
  Rows rows(count);
  for (std::size_t i = 0; i < count; ++i) {
    rows[i].assign(values.begin() + static_cast<std::ptrdiff_t>(i * columns),
                   values.begin() + static_cast<std::ptrdiff_t>((i + 1) * columns));
  }
  return rows;
}

// Rows whose element [i][j] is value(i, j).
inline Rows make_rows(std::size_t rows, std::size_t columns,
                      const std::function<double(std::size_t, std::size_t)>& value) {
  Rows result(rows, std::vector<double>(columns));
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) result[i][j] = value(i, j);
  }
  return result;
}

inline Rows times(const Rows& a, const Rows& b) {
  return make_rows(a.size(), b[0].size(), [&](std::size_t i, std::size_t j) {
    double sum = 0;
    for (std::size_t k = 0; k < b.size(); ++k) sum += a[i][k] * b[k][j];
    return sum;
  });
}

inline Rows plus(const Rows& a, double factor, const Rows& b) {
  return make_rows(a.size(), a[0].size(), [&](std::size_t i, std::size_t j) { return a[i][j] + factor * b[i][j]; });
}

inline void expect_near(const HostTensor& found, const Rows& wanted, double tolerance = 1e-5) {
  EXPECT_EQ(found.dtype, DType::f32);
  const Rows rows = rows_of(found);
  ASSERT_EQ(rows.size(), wanted.size());
  ASSERT_EQ(rows[0].size(), wanted[0].size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t j = 0; j < rows[i].size(); ++j) {
      ASSERT_NEAR(rows[i][j], wanted[i][j], tolerance * (1 + std::abs(wanted[i][j]))) << "at " << i << ", " << j;
    }
  }
}

}  // namespace darkroom::test
