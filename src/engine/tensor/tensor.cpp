#include "engine/tensor/tensor.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"

namespace darkroom::engine {

Shape::Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  DR_ASSERT(dims.size() <= dims_.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

std::int64_t Shape::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t dim : dims()) product *= dim;
  return product;
}

bool Shape::operator==(const Shape& other) const { return std::ranges::equal(dims(), other.dims()); }

std::string Shape::str() const { return fmt::format("[{}]", fmt::join(dims(), ",")); }

Tensor::Tensor(std::shared_ptr<Buffer> buffer, Shape shape, DType type)
    : buffer_(std::move(buffer)), shape_(shape), row_stride_(shape.rank() > 0 ? shape[-1] : 1), type_(type) {
  DR_ASSERT(static_cast<std::size_t>(shape_.elements()) * size_of(type_) <= buffer_->bytes());
}

Tensor Tensor::reshape(Shape shape) const {
  DR_ASSERT(shape.elements() == elements());
  DR_ASSERT(contiguous() || shape[-1] == channels());
  Tensor view = *this;
  view.shape_ = shape;
  if (contiguous()) view.row_stride_ = shape[-1];
  return view;
}

Tensor Tensor::slice_channels(std::int64_t begin, std::int64_t count) const {
  DR_ASSERT(begin >= 0 && count >= 0 && begin + count <= channels());
  Tensor view = *this;
  std::array<std::int64_t, kMaxRank> dims{};
  std::ranges::copy(shape_.dims(), dims.begin());
  dims[static_cast<std::size_t>(rank() - 1)] = count;
  view.shape_ = Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(rank())));
  view.offset_bytes_ += static_cast<std::size_t>(begin) * size_of(type_);
  return view;
}

Tensor Tensor::slice_batch(std::int64_t begin, std::int64_t count) const {
  DR_ASSERT(rank() >= 2 && begin >= 0 && count >= 0 && begin + count <= dim(0));
  Tensor view = *this;
  std::array<std::int64_t, kMaxRank> dims{};
  std::ranges::copy(shape_.dims(), dims.begin());
  dims[0] = count;
  view.shape_ = Shape(std::span<const std::int64_t>(dims.data(), static_cast<std::size_t>(rank())));
  const std::int64_t rows_per_item = rows() / dim(0);
  view.offset_bytes_ += static_cast<std::size_t>(begin * rows_per_item * row_stride_) * size_of(type_);
  return view;
}

void release_pages(const HostTensor& tensor) {
  if (!tensor.mapped) return;
  // Whole pages only: those at the ends also hold the neighbours' data.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(tensor.data) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.bytes()) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace darkroom::engine
