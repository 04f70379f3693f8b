#include "engine/weights/lora_matrix.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <omp.h>

#include "base/error.h"

namespace darkroom::engine {
namespace {

constexpr std::int64_t kTileRows = 4;            // whose sums lie in registers together
constexpr std::int64_t kChunk = 1 << 16;         // elements of a result that are worked on in a core's cache
constexpr std::int64_t kParallelFrom = 1 << 16;  // elements; fewer are not worth waking threads for

int threads_for(std::int64_t elements, int threads) {
  if (elements < kParallelFrom) return 1;
  return threads > 0 ? threads : omp_get_max_threads();
}

// Rows of out += a·b.
struct ProductRows {
  const float* a = nullptr;  // [rows, depth]
  const float* b = nullptr;  // [depth, columns]
  float* out = nullptr;      // [rows, columns]
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
    const float* from = p.b + k * p.columns + column;
    // One by one, or the compiler would go through memory.
    for (int v = 0; v < kVectors; ++v) __builtin_memcpy(&right[v], from + v * kLanes, sizeof right[v]);
    for (int r = 0; r < kRows; ++r) {
      const float left = p.a[(row + r) * p.depth + k];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* to = p.out + (row + r) * p.columns + column;
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

// A panel of b's columns stays in the nearest cache while all rows meet it.
template <int kLanes, int kVectors>
[[gnu::always_inline]] inline void add_all(const ProductRows& p) {
  std::int64_t column = 0;
  for (; column + kLanes * kVectors <= p.columns; column += kLanes * kVectors) add_columns<kLanes, kVectors>(p, column);
  for (; column + kLanes <= p.columns; column += kLanes) add_columns<kLanes, 1>(p, column);
  for (; column < p.columns; ++column) add_columns<1, 1>(p, column);
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

// Runs work(first row, number of rows) over chunks of a result's rows.
template <class Work>
void for_chunks(const FloatMatrix& result, int threads, Work work) {
  const std::int64_t rows = result.rows();
  const std::int64_t tiles =
      std::clamp<std::int64_t>(kChunk / std::max<std::int64_t>(result.columns(), 1) / kTileRows, 1, 8);
  const std::int64_t chunk_rows = tiles * kTileRows;
  const std::int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  threads = threads_for(result.elements(), threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const std::int64_t first = chunk * chunk_rows;
    work(first, std::min(chunk_rows, rows - first));
  }
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

FloatMatrix read_matrix(const HostTensor& tensor) {
  const std::int64_t rows = tensor.shape.rank() == 0 ? 1 : tensor.shape[0];
  FloatMatrix matrix(rows, rows == 0 ? 0 : tensor.elements() / rows);
  to_float(tensor.dtype, tensor.data, matrix.values().data(), matrix.values().size());
  return matrix;
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
  const AddRows add_rows = choose_add_rows();
  for_chunks(out, threads, [&](std::int64_t first, std::int64_t rows) {
    add_rows({a.row(first), b.row(0), out.row(first), rows, a.columns(), b.columns()});
  });
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
  const std::int64_t rows = base.shape.rank() == 0 ? 1 : base.shape[0];
  FloatMatrix out(rows, base.elements() / std::max<std::int64_t>(rows, 1));
  const AddRows add_rows = choose_add_rows();
  const std::size_t row_bytes = static_cast<std::size_t>(out.columns()) * size_of(base.dtype);
  for_chunks(out, threads, [&](std::int64_t first, std::int64_t count) {
    to_float(base.dtype, base.data + static_cast<std::size_t>(first) * row_bytes, out.row(first),
             static_cast<std::size_t>(count * out.columns()));
    for (const auto& [left, right] : products) {
      add_rows({left.row(first), right.row(0), out.row(first), count, left.columns(), out.columns()});
    }
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
  add_scaled(-1.0F, product(c, a_b, 1).values(), s.values(), 1);
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
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t i = 0; i < count; ++i) work(i);
}

void for_rows(const FloatMatrix& matrix, int threads, const std::function<void(std::int64_t)>& work) {
  side_by_side(matrix.rows(), matrix.elements(), threads, work);
}

void add_scaled(float factor, std::span<const float> a, std::span<float> out, int threads) {
  DR_ASSERT(a.size() == out.size());
  const auto count = static_cast<std::int64_t>(out.size());
  threads = threads_for(count, threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t i = 0; i < count; ++i) {
    out[static_cast<std::size_t>(i)] += factor * a[static_cast<std::size_t>(i)];
  }
}

}  // namespace darkroom::engine
