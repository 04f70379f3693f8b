// Dense float32 matrices, with the one product that merging an adapter's small matrices takes. A convolution's weight
// [O, I, kh, kw] is a matrix of O rows and I·kh·kw columns here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/tensor/tensor.h"

namespace darkroom::engine {

// Only moved: two of them never share their numbers.
class FloatMatrix {
 public:
  FloatMatrix() = default;
  FloatMatrix(FloatMatrix&&) = default;
  FloatMatrix& operator=(FloatMatrix&&) = default;
  // Uninitialised, in memory of its own.
  FloatMatrix(std::int64_t rows, std::int64_t columns);

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t elements() const { return rows_ * columns_; }
  float* row(std::int64_t i) { return values_.get() + i * columns_; }
  const float* row(std::int64_t i) const { return values_.get() + i * columns_; }
  std::span<float> values() { return {values_.get(), static_cast<std::size_t>(elements())}; }
  std::span<const float> values() const { return {values_.get(), static_cast<std::size_t>(elements())}; }
  // Its memory, for a tensor to own.
  std::shared_ptr<const float[]> memory() const { return values_; }

 private:
  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::shared_ptr<float[]> values_;
};

FloatMatrix zero_matrix(std::int64_t rows, std::int64_t columns);
// A tensor is a matrix of its first dimension by all the others; a scalar is 1×1.
std::int64_t matrix_rows(const HostTensor& tensor);
// Of a floating type.
FloatMatrix read_matrix(const HostTensor& tensor);
FloatMatrix transposed(const FloatMatrix& matrix);

// Tensors of floating types and as many columns, one behind the other.
class TensorRows {
 public:
  explicit TensorRows(std::vector<HostTensor> tensors) : tensors_(std::move(tensors)) {}
  // rows [count, columns] as float32
  void read(std::int64_t first, std::int64_t count, float* rows) const;

 private:
  std::vector<HostTensor> tensors_;
};

// Sums are float32, in an order that depends on the shapes alone, not on the threads.
// threads: 0 is OpenMP's own number.
// out += a·b
void add_product(const FloatMatrix& a, const FloatMatrix& b, FloatMatrix& out, int threads);
// a·b
FloatMatrix product(const FloatMatrix& a, const FloatMatrix& b, int threads);
// out [count, b's columns] += rows `first` to `first + count - 1` of a, times b
void add_product_rows(const FloatMatrix& a, std::int64_t first, std::int64_t count, const FloatMatrix& b, float* out);
// tensor + Σ products
FloatMatrix add_up(const TensorSum& sum, int threads);
// Of a square matrix whose symmetric part is positive definite, as that of I + Q with a skew-symmetric Q is: it needs
// no pivots.
FloatMatrix inverse(const FloatMatrix& matrix);
// Some rows of a matrix, as many as a core's cache has room for.
struct RowChunk {
  std::int64_t index = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
  // As many matrices [count, columns] as were asked for, of this thread alone.
  std::vector<float*> scratch;
};
std::int64_t chunks_of(std::int64_t rows, std::int64_t columns);
// Runs work() over all chunks of a matrix, side by side.
void for_chunks(std::int64_t rows, std::int64_t columns, int scratch, int threads,
                const std::function<void(const RowChunk&)>& work);
// Runs work(0) to work(count - 1), side by side where `elements` numbers in all are worth it. Throws what one of them
// threw, when all are done.
void side_by_side(std::int64_t count, std::int64_t elements, int threads,
                  const std::function<void(std::int64_t)>& work);
// out += factor·a, element by element
void add_scaled(float factor, std::span<const float> a, std::span<float> out);

}  // namespace darkroom::engine
