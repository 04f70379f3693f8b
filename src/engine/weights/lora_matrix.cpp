#include "engine/weights/lora_matrix.h"

#include <algorithm>
#include <exception>
#include <utility>
#include <vector>

#include <omp.h>

#include "base/error.h"

namespace darkroom::engine {
namespace {

constexpr std::int64_t kTileRows = 4;            // whose sums lie in registers together
constexpr std::int64_t kSlice = 128;             // of a product's depth that is summed at once
constexpr std::int64_t kChunk = 1 << 16;         // elements of a result that are worked on in a core's cache
constexpr std::int64_t kParallelFrom = 1 << 16;  // elements; fewer are not worth waking threads for

int threads_for(std::int64_t elements, int threads) {
  if (elements < kParallelFrom) return 1;
  return threads > 0 ? threads : omp_get_max_threads();
}

// Rows of out += a·b.
struct ProductRows {
  const float* a = nullptr;  // [rows, depth], a_step apart
  std::int64_t a_step = 0;
  const float* b = nullptr;  // [depth, columns], b_step apart
  std::int64_t b_step = 0;
  float* out = nullptr;  // [rows, columns], out_step apart
  std::int64_t out_step = 0;
  std::int64_t rows = 0;
  std::int64_t depth = 0;
  std::int64_t columns = 0;
};

// kRows rows of a result, kVectors vectors wide, from column `column` on: sums stay in registers.
template <int kLanes, int kRows, int kVectors>
[[gnu::always_inline]] inline void add_tile(const ProductRows& p, std::int64_t row, std::int64_t column) {
  using Vec __attribute__((vector_size(kLanes * sizeof(float)))) = float;
  Vec sum[kRows][kVectors] = {};
  for (std::int64_t k = 0; k < p.depth; ++k) {
    Vec right[kVectors];
    const float* from = p.b + k * p.b_step + column;
    // One by one, or the compiler would go through memory.
    for (int v = 0; v < kVectors; ++v) __builtin_memcpy(&right[v], from + v * kLanes, sizeof right[v]);
    for (int r = 0; r < kRows; ++r) {
      const float left = p.a[(row + r) * p.a_step + k];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* to = p.out + (row + r) * p.out_step + column;
    for (int v = 0; v < kVectors; ++v) {
      Vec value;
      __builtin_memcpy(&value, to + v * kLanes, sizeof value);
      value += sum[r][v];
      __builtin_memcpy(to + v * kLanes, &value, sizeof value);
    }
  }
}

template <int kLanes, int kVectors>
[[gnu::always_inline]] inline void add_columns(const ProductRows& p, std::int64_t column) {
  std::int64_t row = 0;
  for (; row + kTileRows <= p.rows; row += kTileRows) add_tile<kLanes, kTileRows, kVectors>(p, row, column);
  for (; row < p.rows; ++row) add_tile<kLanes, 1, kVectors>(p, row, column);
}

// A panel of b's columns stays in the nearest cache while all rows meet it. A deep one is copied there: its rows lie so
// far apart that they would take each other's place.
template <int kLanes, int kVectors>
[[gnu::always_inline]] inline void add_slice(const ProductRows& p) {
  constexpr std::int64_t kWidth = kLanes * kVectors;
  constexpr std::int64_t kShallow = 32;
  std::int64_t column = 0;
  for (; column + kWidth <= p.columns; column += kWidth) {
    if (p.depth <= kShallow) {
      add_columns<kLanes, kVectors>(p, column);
      continue;
    }
    alignas(64) float panel[kSlice * kWidth];
    for (std::int64_t k = 0; k < p.depth; ++k) std::copy_n(p.b + k * p.b_step + column, kWidth, panel + k * kWidth);
    ProductRows part = p;
    part.b = panel;
    part.b_step = kWidth;
    part.out = p.out + column;
    add_columns<kLanes, kVectors>(part, 0);
  }
  for (; column + kLanes <= p.columns; column += kLanes) add_columns<kLanes, 1>(p, column);
  for (; column < p.columns; ++column) add_columns<1, 1>(p, column);
}

template <int kLanes, int kVectors>
[[gnu::always_inline]] inline void add_all(const ProductRows& p) {
  for (std::int64_t k = 0; k < p.depth; k += kSlice) {
    ProductRows slice = p;
    slice.a = p.a + k;
    slice.b = p.b + k * p.b_step;
    slice.depth = std::min(kSlice, p.depth - k);
    add_slice<kLanes, kVectors>(slice);
  }
}

using AddRows = void (*)(const ProductRows&);

void add_rows_baseline(const ProductRows& p) { add_all<4, 2>(p); }
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void add_rows_avx2(const ProductRows& p) { add_all<8, 2>(p); }
__attribute__((target("avx512f"))) void add_rows_avx512(const ProductRows& p) { add_all<16, 4>(p); }
#endif

AddRows choose_add_rows() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") != 0) return add_rows_avx512;
  if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0) return add_rows_avx2;
#endif
  return add_rows_baseline;
}

// A few tiles' rows.
std::int64_t chunk_rows(std::int64_t columns) {
  return kTileRows * std::clamp<std::int64_t>(kChunk / std::max<std::int64_t>(columns, 1) / kTileRows, 1, 8);
}

FloatMatrix part_of(const FloatMatrix& matrix, std::int64_t row, std::int64_t column, std::int64_t rows,
                    std::int64_t columns) {
  FloatMatrix part(rows, columns);
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(matrix.row(row + i) + column, columns, part.row(i));
  return part;
}

// Gauss and Jordan's elimination, in double.
FloatMatrix small_inverse(const FloatMatrix& matrix) {
  const std::int64_t n = matrix.rows();
  std::vector<double> values(matrix.values().begin(), matrix.values().end());
  const auto row = [&](std::int64_t i) { return values.data() + i * n; };
  for (std::int64_t k = 0; k < n; ++k) {
    const double factor = 1 / row(k)[k];
    row(k)[k] = 1;
    for (std::int64_t j = 0; j < n; ++j) row(k)[j] *= factor;
    for (std::int64_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double times = row(i)[k];
      row(i)[k] = 0;
      for (std::int64_t j = 0; j < n; ++j) row(i)[j] -= times * row(k)[j];
    }
  }
  FloatMatrix result(n, n);
  std::ranges::transform(values, result.values().begin(), [](double value) { return static_cast<float>(value); });
  return result;
}

}  // namespace

FloatMatrix::FloatMatrix(std::int64_t rows, std::int64_t columns)
    : rows_(rows),
      columns_(columns),
      values_(std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(rows * columns))) {}

FloatMatrix zero_matrix(std::int64_t rows, std::int64_t columns) {
  FloatMatrix matrix(rows, columns);
  std::ranges::fill(matrix.values(), 0.0F);
  return matrix;
}

std::int64_t matrix_rows(const HostTensor& tensor) { return tensor.shape.rank() == 0 ? 1 : tensor.shape[0]; }

FloatMatrix read_matrix(const HostTensor& tensor) {
  const std::int64_t rows = matrix_rows(tensor);
  FloatMatrix matrix(rows, rows == 0 ? 0 : tensor.elements() / rows);
  to_float(tensor.dtype, tensor.data, matrix.values().data(), matrix.values().size());
  return matrix;
}

void TensorRows::read(std::int64_t first, std::int64_t count, float* rows) const {
  for (const HostTensor& tensor : tensors_) {
    const std::int64_t here = matrix_rows(tensor);
    const std::int64_t columns = tensor.elements() / here;
    if (first < here && count > 0) {
      const std::int64_t part = std::min(count, here - first);
      to_float(tensor.dtype, tensor.data + static_cast<std::size_t>(first * columns) * size_of(tensor.dtype), rows,
               static_cast<std::size_t>(part * columns));
      rows += part * columns;
      count -= part;
      first += part;
    }
    first -= here;
  }
}

FloatMatrix transposed(const FloatMatrix& matrix) {
  FloatMatrix result(matrix.columns(), matrix.rows());
  for (std::int64_t i = 0; i < matrix.rows(); ++i) {
    for (std::int64_t j = 0; j < matrix.columns(); ++j) result.row(j)[i] = matrix.row(i)[j];
  }
  return result;
}

void add_product(const FloatMatrix& a, const FloatMatrix& b, FloatMatrix& out, int threads) {
  DR_ASSERT(a.columns() == b.rows() && a.rows() == out.rows() && b.columns() == out.columns());
  for_chunks(out.rows(), out.columns(), 0, threads,
             [&](const RowChunk& chunk) { add_product_rows(a, chunk.first, chunk.count, b, out.row(chunk.first)); });
}

void add_product_rows(const FloatMatrix& a, std::int64_t first, std::int64_t count, const FloatMatrix& b, float* out) {
  static const AddRows add_rows = choose_add_rows();
  add_rows({.a = a.row(first),
            .a_step = a.columns(),
            .b = b.row(0),
            .b_step = b.columns(),
            .out = out,
            .out_step = b.columns(),
            .rows = count,
            .depth = a.columns(),
            .columns = b.columns()});
}

FloatMatrix product(const FloatMatrix& a, const FloatMatrix& b, int threads) {
  FloatMatrix out = zero_matrix(a.rows(), b.columns());
  add_product(a, b, out, threads);
  return out;
}

FloatMatrix add_up(const TensorSum& sum, int threads) {
  const HostTensor& base = sum.tensor;
  // left, scaled, and right
  std::vector<std::pair<FloatMatrix, FloatMatrix>> products;
  for (const LowRankProduct& product : sum.products) {
    FloatMatrix left = read_matrix(product.left);
    for (float& value : left.values()) value *= product.scale;
    products.emplace_back(std::move(left), read_matrix(product.right));
  }
  const std::int64_t rows = matrix_rows(base);
  const TensorRows base_rows({base});
  FloatMatrix out(rows, base.elements() / std::max<std::int64_t>(rows, 1));
  for_chunks(out.rows(), out.columns(), 0, threads, [&](const RowChunk& chunk) {
    float* to = out.row(chunk.first);
    base_rows.read(chunk.first, chunk.count, to);
    for (const auto& [left, right] : products) add_product_rows(left, chunk.first, chunk.count, right, to);
  });
  return out;
}

FloatMatrix inverse(const FloatMatrix& matrix) {
  constexpr std::int64_t kSmall = 16;
  const std::int64_t n = matrix.rows();
  DR_ASSERT(n == matrix.columns());
  if (n <= kSmall) return small_inverse(matrix);
  // By halves [a b; c d] and Schur's complement s = d − c·a⁻¹·b, whose symmetric part is positive definite again.
  const std::int64_t half = n / 2;
  const FloatMatrix a = inverse(part_of(matrix, 0, 0, half, half));
  const FloatMatrix c = part_of(matrix, half, 0, n - half, half);
  const FloatMatrix a_b = product(a, part_of(matrix, 0, half, half, n - half), 1);
  FloatMatrix s = part_of(matrix, half, half, n - half, n - half);
  add_scaled(-1.0F, product(c, a_b, 1).values(), s.values());
  s = inverse(s);
  FloatMatrix s_c_a = product(s, product(c, a, 1), 1);

  FloatMatrix result(n, n);
  const FloatMatrix a_b_s = product(a_b, s, 1);
  const FloatMatrix a_more = product(a_b, s_c_a, 1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < half; ++j) {
      result.row(i)[j] = i < half ? a.row(i)[j] + a_more.row(i)[j] : -s_c_a.row(i - half)[j];
    }
    for (std::int64_t j = half; j < n; ++j) {
      result.row(i)[j] = i < half ? -a_b_s.row(i)[j - half] : s.row(i - half)[j - half];
    }
  }
  return result;
}

void side_by_side(std::int64_t count, std::int64_t elements, int threads,
                  const std::function<void(std::int64_t)>& work) {
  threads = threads_for(elements, threads);
  std::exception_ptr failure;  // one of them: out of a parallel region no exception may fly
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    try {
      work(i);
    } catch (...) {
#pragma omp critical
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

std::int64_t chunks_of(std::int64_t rows, std::int64_t columns) {
  return (rows + chunk_rows(columns) - 1) / chunk_rows(columns);
}

void for_chunks(std::int64_t rows, std::int64_t columns, int scratch, int threads,
                const std::function<void(const RowChunk&)>& work) {
  const std::int64_t each = chunk_rows(columns);
  const std::int64_t chunks = chunks_of(rows, columns);
  threads = threads_for(rows * columns, threads);
  std::vector<RowChunk> of_thread(static_cast<std::size_t>(threads));
  const auto memory =
      std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(threads * scratch * each * columns));
  for (int i = 0; i < threads * scratch; ++i) {
    of_thread[static_cast<std::size_t>(i / scratch)].scratch.push_back(memory.get() + i * each * columns);
  }
  side_by_side(chunks, rows * columns, threads, [&](std::int64_t index) {
    RowChunk& chunk = of_thread[static_cast<std::size_t>(omp_get_thread_num())];
    chunk.index = index;
    chunk.first = index * each;
    chunk.count = std::min(each, rows - chunk.first);
    work(chunk);
  });
}

void add_scaled(float factor, std::span<const float> a, std::span<float> out) {
  DR_ASSERT(a.size() == out.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += factor * a[i];
}

}  // namespace darkroom::engine
