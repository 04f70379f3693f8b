#include "engine/weights/lora_formulas.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/overloaded.h"

namespace darkroom::engine {
namespace {

// [p, q·taps] seen as [p, q, taps] → [p·taps, q] and back: what a product over q alone takes.
FloatMatrix taps_outside(const FloatMatrix& matrix, std::int64_t taps) {
  const std::int64_t inner = matrix.columns() / taps;
  FloatMatrix result(matrix.rows() * taps, inner);
  for (std::int64_t p = 0; p < matrix.rows(); ++p) {
    for (std::int64_t t = 0; t < taps; ++t) {
      float* to = result.row(p * taps + t);
      for (std::int64_t q = 0; q < inner; ++q) to[q] = matrix.row(p)[q * taps + t];
    }
  }
  return result;
}

FloatMatrix taps_inside(const FloatMatrix& matrix, std::int64_t taps) {
  FloatMatrix result(matrix.rows() / taps, matrix.columns() * taps);
  for (std::int64_t p = 0; p < result.rows(); ++p) {
    for (std::int64_t t = 0; t < taps; ++t) {
      const float* from = matrix.row(p * taps + t);
      for (std::int64_t q = 0; q < matrix.columns(); ++q) result.row(p)[q * taps + t] = from[q];
    }
  }
  return result;
}

// matrix[p, q, taps] times right[q, i], tap by tap: [p, i·taps]
FloatMatrix product_per_tap(const FloatMatrix& matrix, std::int64_t taps, const FloatMatrix& right, int threads) {
  if (taps == 1) return product(matrix, right, threads);
  return taps_inside(product(taps_outside(matrix, taps), right, threads), taps);
}

// A product's right matrix [p, I·taps], a core's taps in it.
FloatMatrix right_of(const Factor& factor, std::int64_t taps, int threads) {
  if (!factor.right) return {};
  FloatMatrix right = read_matrix(*factor.right);
  return factor.core ? product_per_tap(read_matrix(*factor.core), taps, right, threads) : std::move(right);
}

FloatMatrix left_of(const Factor& factor) {
  FloatMatrix left = read_matrix(factor.left);
  return factor.left_lies_transposed ? transposed(left) : std::move(left);
}

// Of a small factor.
FloatMatrix matrix_of(const Factor& factor, std::int64_t taps, int threads) {
  return factor.right ? product(left_of(factor), right_of(factor, taps, threads), threads) : read_matrix(factor.left);
}

// Σ of the squares of all Q = block − blockᵀ.
double square_norm(const FloatMatrix& blocks, std::int64_t n) {
  double sum = 0;
  for (const float* block = blocks.row(0); block < blocks.row(0) + blocks.elements(); block += n * n) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < i; ++j) {
        const double q = static_cast<double>(block[i * n + j]) - block[j * n + i];
        sum += 2 * q * q;
      }
    }
  }
  return sum;
}

// Where the rows of a block come from: OFT's lie together; in a stage of BOFT the rows r and r + distance of each
// 2·distance rows become neighbours first.
std::int64_t row_of_block(std::int64_t i, std::int64_t distance) {
  if (distance == 0) return i;
  return i / (2 * distance) * (2 * distance) + i % 2 * distance + i % (2 * distance) / 2;
}

// ΔW of a rotation. Q is skew-symmetric, so Rᵀ = (I − Q)·(I + Q)⁻¹ = 2·(I + Q)⁻¹ − I, and R the same of −Q.
FloatMatrix rotation_change(const Rotation& rotation, const AdaptedShape& shape, const TensorRows& base, int threads) {
  const FloatMatrix blocks = read_matrix(rotation.blocks);
  const std::int64_t n = rotation.size;
  const std::int64_t columns = shape.columns();
  const std::int64_t count = shape.out / n;
  const double norm = rotation.limit > 0 ? std::sqrt(square_norm(blocks, n)) : 0;
  const auto shorter = static_cast<float>(norm > rotation.limit ? rotation.limit / norm : 1.0);

  FloatMatrix turned(shape.out, columns);
  for_chunks(shape.out, columns, 0, threads,
             [&](const RowChunk& chunk) { base.read(chunk.first, chunk.count, turned.row(chunk.first)); });
  for (std::int64_t stage = 0; stage < rotation.stages; ++stage) {
    const std::int64_t distance = rotation.butterfly ? (n / 2) << stage : 0;
    side_by_side(count, turned.elements(), threads, [&](std::int64_t b) {
      const float* block = blocks.row(0) + (stage * count + b) * n * n;
      FloatMatrix matrix(n, n);
      FloatMatrix rows(n, columns);
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const float q = (block[i * n + j] - block[j * n + i]) * shorter;
          matrix.row(i)[j] = (i == j ? 1.0F : 0.0F) + (rotation.butterfly ? -q : q);
        }
        std::copy_n(turned.row(row_of_block(b * n + i, distance)), columns, rows.row(i));
      }
      const FloatMatrix solved = product(inverse(matrix), rows, 1);
      for (std::int64_t i = 0; i < n; ++i) {
        float* to = turned.row(row_of_block(b * n + i, distance));
        for (std::int64_t c = 0; c < columns; ++c) to[c] = 2 * solved.row(i)[c] - rows.row(i)[c];
      }
    });
  }
  const FloatMatrix rescale = rotation.rescale ? read_matrix(*rotation.rescale) : FloatMatrix();
  for_chunks(shape.out, columns, 1, threads, [&](const RowChunk& chunk) {
    const float* before = chunk.scratch[0];
    base.read(chunk.first, chunk.count, chunk.scratch[0]);
    for (std::int64_t o = chunk.first; o < chunk.first + chunk.count; ++o, before += columns) {
      const float factor = rotation.rescale ? rescale.row(o)[0] : 1.0F;
      for (std::int64_t c = 0; c < columns; ++c) turned.row(o)[c] = factor * turned.row(o)[c] - before[c];
    }
  });
  return turned;
}

// Σ of squares. Several sums side by side, as each addition waits for the one before.
double square_sum(const float* values, std::int64_t count) {
  constexpr std::int64_t kSums = 8;
  double sums[kSums] = {};
  std::int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (std::int64_t s = 0; s < kSums; ++s) sums[s] += static_cast<double>(values[i + s]) * values[i + s];
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * values[i];
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

// What is zero has no direction to be given a length in and stays so.
float length_factor(float wanted, double squares) {
  return squares > 0 ? static_cast<float>(wanted / std::sqrt(squares)) : 0.0F;
}

}  // namespace

bool is_plain_product(const AdapterLayer& layer) {
  const auto* factor = std::get_if<Factor>(&layer.change);
  return factor != nullptr && factor->right && !factor->core && !layer.dora;
}

WeightChange::FactorRows::FactorRows(const Factor& factor, std::int64_t taps, int threads)
    : whole({factor.left}), right(right_of(factor, taps, threads)) {
  if (factor.right) left = left_of(factor);
}

void WeightChange::FactorRows::read(std::int64_t first, std::int64_t count, float* rows) const {
  if (right.rows() == 0) return whole.read(first, count, rows);
  std::fill_n(rows, count * right.columns(), 0.0F);
  add_product_rows(left, first, count, right, rows);
}

WeightChange::WeightChange(const AdapterLayer& layer, TensorRows base, int threads)
    : layer_(layer), base_(std::move(base)), columns_(layer.shape.columns()) {
  const std::int64_t taps = layer.shape.taps();
  std::visit(
      Overloaded{
          [](std::monostate) {}, [&](const Factor& factor) { form_.emplace<FactorRows>(factor, taps, threads); },
          [&](const Hadamard& hadamard) {
            form_ = HadamardRows{{hadamard.first, taps, threads}, {hadamard.second, taps, threads}};
          },
          [&](const Kronecker& factors) {
            form_ = KroneckerRows{matrix_of(factors.first, 1, threads), matrix_of(factors.second, taps, threads)};
          },
          [&](const Generalized& generalized) {
            form_ = GeneralizedRows{read_matrix(generalized.a_left), read_matrix(generalized.a_right),
                                    read_matrix(generalized.b_left), read_matrix(generalized.b_right),
                                    generalized.per_tap ? taps : 1};
          },
          [&](const Rotation& rotation) { form_ = rotation_change(rotation, layer.shape, base_, threads); },
          [&](const Scaling& scaling) {
            form_ = ScalingRows{read_matrix(scaling.factors), scaling.axis};
          }},
      layer.change);
  if (!layer.dora) return;
  const FloatMatrix lengths = read_matrix(layer.dora->scale);
  lengths_.assign(lengths.values().begin(), lengths.values().end());
  if (layer.dora->axis == ChannelAxis::input) find_input_lengths(threads);
}

// A chunk's sums by themselves, so that their order is that of the rows whatever the threads.
void WeightChange::find_input_lengths(int threads) {
  const auto columns = static_cast<std::size_t>(columns_);
  std::vector<double> squares(static_cast<std::size_t>(chunks_of(layer_.shape.out, columns_)) * columns);
  for_chunks(layer_.shape.out, columns_, 2, threads, [&](const RowChunk& chunk) {
    const float* change = chunk.scratch[0];
    const float* base = chunk.scratch[1];
    read_form(chunk.first, chunk.count, chunk.scratch[0], chunk.scratch[1]);
    base_.read(chunk.first, chunk.count, chunk.scratch[1]);
    double* sums = squares.data() + static_cast<std::size_t>(chunk.index) * columns;
    for (std::int64_t o = 0; o < chunk.count; ++o, change += columns_, base += columns_) {
      for (std::int64_t i = 0; i < columns_; ++i) {
        const double adapted = static_cast<double>(base[i]) + change[i];
        sums[i] += adapted * adapted;
      }
    }
  });
  for (std::size_t i = columns; i < squares.size(); ++i) squares[i % columns] += squares[i];
  const auto taps = static_cast<std::size_t>(layer_.shape.taps());
  for (std::size_t input = 0; input < lengths_.size(); ++input) {
    double sum = 0;
    for (std::size_t tap = 0; tap < taps; ++tap) sum += squares[input * taps + tap];
    column_factors_.insert(column_factors_.end(), taps, length_factor(lengths_[input], sum));
  }
}

// Without DoRA.
void WeightChange::read_form(std::int64_t first, std::int64_t count, float* rows, float* scratch) const {
  const std::int64_t elements = count * columns_;
  std::visit(Overloaded{[&](std::monostate) { std::fill_n(rows, elements, 0.0F); },
                        [&](const FactorRows& form) { form.read(first, count, rows); },
                        [&](const HadamardRows& form) {
                          form.first.read(first, count, rows);
                          form.second.read(first, count, scratch);
                          for (std::int64_t i = 0; i < elements; ++i) rows[i] *= scratch[i];
                        },
                        [&](const KroneckerRows& form) {
                          float* to = rows;
                          for (std::int64_t o = first; o < first + count; ++o) {
                            const float* factors = form.first.row(o / form.second.rows());
                            const float* values = form.second.row(o % form.second.rows());
                            for (std::int64_t j = 0; j < form.first.columns(); ++j, to += form.second.columns()) {
                              for (std::int64_t k = 0; k < form.second.columns(); ++k) to[k] = factors[j] * values[k];
                            }
                          }
                        },
                        [&](const GeneralizedRows& form) {
                          FloatMatrix base(count, columns_);
                          base_.read(first, count, base.row(0));
                          const FloatMatrix mixed = product_per_tap(product_per_tap(base, form.taps, form.a_left, 1),
                                                                    form.taps, form.a_right, 1);
                          std::ranges::copy(mixed.values(), rows);
                          add_product_rows(form.b_left, first, count, form.b_right, rows);
                        },
                        [&](const ScalingRows& form) {
                          base_.read(first, count, rows);
                          const float* factors = form.factors.row(0);
                          for (std::int64_t i = 0; i < elements; ++i) {
                            rows[i] *= form.axis == ChannelAxis::output ? factors[first + i / columns_]
                                                                        : factors[i % columns_ / layer_.shape.taps()];
                          }
                        },
                        [&](const FloatMatrix& whole) { std::copy_n(whole.row(first), elements, rows); }},
             form_);
  if (layer_.scale == 1.0F) return;
  for (std::int64_t i = 0; i < elements; ++i) rows[i] *= layer_.scale;
}

void WeightChange::read(std::int64_t first, std::int64_t count, float* rows, float* scratch) const {
  read_form(first, count, rows, scratch);
  if (!layer_.dora) return;
  // ΔW becomes m·(W + ΔW)/‖W + ΔW‖ − W. A strength then leads from W straight to there.
  base_.read(first, count, scratch);
  for (std::int64_t o = first; o < first + count; ++o, rows += columns_, scratch += columns_) {
    for (std::int64_t i = 0; i < columns_; ++i) rows[i] += scratch[i];
    if (layer_.dora->axis == ChannelAxis::output) {
      const float factor = length_factor(lengths_[static_cast<std::size_t>(o)], square_sum(rows, columns_));
      for (std::int64_t i = 0; i < columns_; ++i) rows[i] = rows[i] * factor - scratch[i];
    } else {
      const float* factors = column_factors_.data();
      for (std::int64_t i = 0; i < columns_; ++i) rows[i] = rows[i] * factors[i] - scratch[i];
    }
  }
}

}  // namespace darkroom::engine
