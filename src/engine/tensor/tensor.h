// A tensor: a typed, shaped view of a buffer that a backend owns. Values only; operations are in engine/backend/ops.h.
// Activations are [N, H, W, C], tokens [N, S, C]: the last dimension is always contiguous, and consecutive
// positions lie row_stride() elements apart, so a range of channels is a view.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor/dtype.h"

namespace darkroom::engine {

class Backend;

// Up to kMaxRank dimensions.
inline constexpr std::size_t kMaxRank = 8;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);

  int rank() const { return rank_; }
  // Negative indices count from the end.
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i < 0 ? i + rank_ : i)]; }
  std::int64_t elements() const;
  std::span<const std::int64_t> dims() const { return {dims_.data(), static_cast<std::size_t>(rank_)}; }
  bool operator==(const Shape& other) const;
  std::string str() const;  // "[1,77,2048]"

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// Memory of a backend; freed, or given back to its pool, with the last tensor that views it.
class Buffer {
 public:
  Buffer(Backend& backend, void* data, std::size_t bytes) : backend_(backend), data_(data), bytes_(bytes) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  virtual ~Buffer() = default;

  Backend& backend() const { return backend_; }
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Backend& backend_;
  void* data_;
  std::size_t bytes_;
};

class Tensor {
 public:
  Tensor() = default;  // holds nothing; defined() is false
  // A contiguous tensor at the start of a buffer.
  Tensor(std::shared_ptr<Buffer> buffer, Shape shape, DType type);

  bool defined() const { return buffer_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  std::int64_t dim(int i) const { return shape_[i]; }
  DType dtype() const { return type_; }
  Backend& backend() const { return buffer_->backend(); }

  std::int64_t elements() const { return shape_.elements(); }
  std::int64_t channels() const { return shape_[-1]; }           // the last dimension
  std::int64_t rows() const { return elements() / channels(); }  // product of all other dimensions
  std::int64_t row_stride() const { return row_stride_; }        // elements from one row to the next
  bool contiguous() const { return row_stride_ == channels(); }
  // Whether another tensor sees the same memory: what nobody else sees may be overwritten.
  bool shared() const { return buffer_.use_count() > 1; }

  // The first element. Reading it on the host is for host backends and tests.
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(buffer_->data()) + offset_bytes_);
  }

  // Views that share the buffer.
  Tensor reshape(Shape shape) const;  // same elements; keeps the last dimension if strided
  Tensor slice_channels(std::int64_t begin, std::int64_t count) const;  // of the last dimension
  Tensor slice_batch(std::int64_t begin, std::int64_t count) const;     // of the first dimension

 private:
  std::shared_ptr<Buffer> buffer_;
  std::size_t offset_bytes_ = 0;
  Shape shape_;
  std::int64_t row_stride_ = 0;
  DType type_ = DType::f32;
};

// A tensor of a checkpoint, where it lies: usually inside a mapped file. Dense, in the file's own order and type.
struct HostTensor {
  std::string name;  // as in the file, for messages
  DType dtype = DType::f32;
  Shape shape;
  const std::byte* data = nullptr;
  std::shared_ptr<const void> owner;  // keeps data alive
  bool mapped = false;                // data lies in a mapped file, whose pages can be read again

  std::int64_t elements() const { return shape.elements(); }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(dtype); }
};

// scale·left·right: two small matrices as they lie in their file. Of both, all dimensions behind the first are columns.
struct LowRankProduct {
  HostTensor left;   // [rows, depth]
  HostTensor right;  // [depth, columns]
  float scale = 1.0F;

  std::int64_t depth() const { return right.shape[0]; }
};

// tensor + Σ products, not added up yet. The tensor's rows are its first dimension, its columns all others.
struct TensorSum {
  HostTensor tensor;
  std::vector<LowRankProduct> products;
};

// Takes the pages of a mapped tensor out of this process's memory; reading them brings them back from the file. Does
// nothing for others.
void release_pages(const HostTensor& tensor);

}  // namespace darkroom::engine
