#include "engine/weights/lora_formulas.h"

#include <algorithm>
#include <cmath>
#include <functional>
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

FloatMatrix matrix_of(const Factor& factor, std::int64_t taps, int threads) {
  FloatMatrix left = read_matrix(factor.left);
  if (!factor.right) return left;
  if (factor.left_lies_transposed) left = transposed(left);
  const FloatMatrix right = read_matrix(*factor.right);
  if (!factor.core) return product(left, right, threads);
  // Σ_q (Σ_p core[p, q, taps]·left[o, p])·right[q, i]: the right product first, as its result is the smaller one.
  return product(left, product_per_tap(read_matrix(*factor.core), taps, right, threads), threads);
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
FloatMatrix rotation_change(const Rotation& rotation, const FloatMatrix& base, int threads) {
  const FloatMatrix blocks = read_matrix(rotation.blocks);
  const std::int64_t n = rotation.size;
  const std::int64_t count = base.rows() / n;
  const double norm = rotation.limit > 0 ? std::sqrt(square_norm(blocks, n)) : 0;
  const auto shorter = static_cast<float>(norm > rotation.limit ? rotation.limit / norm : 1.0);

  FloatMatrix turned(base.rows(), base.columns());
  std::ranges::copy(base.values(), turned.values().begin());
  for (std::int64_t stage = 0; stage < rotation.stages; ++stage) {
    const std::int64_t distance = rotation.butterfly ? (n / 2) << stage : 0;
    side_by_side(count, base.elements(), threads, [&](std::int64_t b) {
      const float* block = blocks.row(0) + (stage * count + b) * n * n;
      FloatMatrix matrix(n, n);
      FloatMatrix rows(n, base.columns());
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const float q = (block[i * n + j] - block[j * n + i]) * shorter;
          matrix.row(i)[j] = (i == j ? 1.0F : 0.0F) + (rotation.butterfly ? -q : q);
        }
        std::copy_n(turned.row(row_of_block(b * n + i, distance)), base.columns(), rows.row(i));
      }
      const FloatMatrix solved = product(inverse(matrix), rows, 1);
      for (std::int64_t i = 0; i < n; ++i) {
        float* to = turned.row(row_of_block(b * n + i, distance));
        for (std::int64_t c = 0; c < base.columns(); ++c) to[c] = 2 * solved.row(i)[c] - rows.row(i)[c];
      }
    });
  }
  const FloatMatrix rescale = rotation.rescale ? read_matrix(*rotation.rescale) : FloatMatrix();
  for_rows(turned, threads, [&](std::int64_t o) {
    const float factor = rotation.rescale ? rescale.values()[static_cast<std::size_t>(o)] : 1.0F;
    for (std::int64_t c = 0; c < base.columns(); ++c) turned.row(o)[c] = factor * turned.row(o)[c] - base.row(o)[c];
  });
  return turned;
}

FloatMatrix scaling_change(const Scaling& scaling, const FloatMatrix& base, std::int64_t taps, int threads) {
  const FloatMatrix factors = read_matrix(scaling.factors);
  FloatMatrix change(base.rows(), base.columns());
  for_rows(change, threads, [&](std::int64_t o) {
    for (std::int64_t c = 0; c < base.columns(); ++c) {
      const std::int64_t factor = scaling.axis == ChannelAxis::output ? o : c / taps;
      change.row(o)[c] = base.row(o)[c] * factors.values()[static_cast<std::size_t>(factor)];
    }
  });
  return change;
}

FloatMatrix kronecker(const FloatMatrix& a, const FloatMatrix& b, int threads) {
  FloatMatrix out(a.rows() * b.rows(), a.columns() * b.columns());
  for_rows(out, threads, [&](std::int64_t i) {
    const float* factors = a.row(i / b.rows());
    const float* values = b.row(i % b.rows());
    float* to = out.row(i);
    for (std::int64_t j = 0; j < a.columns(); ++j) {
      for (std::int64_t k = 0; k < b.columns(); ++k) *to++ = factors[j] * values[k];
    }
  });
  return out;
}

// m / the length of each row, or of each input channel over all rows and taps. What is zero has no direction to be
// given a length in and stays so.
std::vector<float> length_factors(const FloatMatrix& weight, const Dora& dora, std::int64_t taps, int threads) {
  const FloatMatrix wanted = read_matrix(dora.scale);
  std::vector<double> squares(wanted.values().size());
  if (dora.axis == ChannelAxis::output) {
    for_rows(weight, threads, [&](std::int64_t o) {
      double sum = 0;
      for (std::int64_t i = 0; i < weight.columns(); ++i)
        sum += static_cast<double>(weight.row(o)[i]) * weight.row(o)[i];
      squares[static_cast<std::size_t>(o)] = sum;
    });
  } else {
    for (std::int64_t o = 0; o < weight.rows(); ++o) {
      for (std::int64_t i = 0; i < weight.columns(); ++i) {
        squares[static_cast<std::size_t>(i / taps)] += static_cast<double>(weight.row(o)[i]) * weight.row(o)[i];
      }
    }
  }
  std::vector<float> factors(squares.size());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    factors[i] = squares[i] > 0 ? static_cast<float>(wanted.values()[i] / std::sqrt(squares[i])) : 0.0F;
  }
  return factors;
}

// ΔW becomes m·(W + ΔW)/‖W + ΔW‖ − W. A strength then leads from W straight to there.
void decompose(const AdapterLayer& layer, const FloatMatrix& base, FloatMatrix& change, int threads) {
  FloatMatrix& adapted = change;
  add_scaled(1.0F, base.values(), adapted.values(), threads);
  const std::int64_t taps = layer.shape.taps();
  const std::vector<float> factors = length_factors(adapted, *layer.dora, taps, threads);
  const bool by_row = layer.dora->axis == ChannelAxis::output;
  for_rows(change, threads, [&](std::int64_t o) {
    float* row = change.row(o);
    for (std::int64_t i = 0; i < change.columns(); ++i) {
      row[i] = row[i] * factors[static_cast<std::size_t>(by_row ? o : i / taps)] - base.row(o)[i];
    }
  });
}

}  // namespace

bool is_plain_product(const AdapterLayer& layer) {
  const auto* factor = std::get_if<Factor>(&layer.change);
  return factor != nullptr && factor->right && !factor->core && !layer.dora;
}

bool needs_base(const AdapterLayer& layer) {
  return layer.dora.has_value() || std::holds_alternative<Generalized>(layer.change) ||
         std::holds_alternative<Rotation>(layer.change) || std::holds_alternative<Scaling>(layer.change);
}

FloatMatrix weight_change(const AdapterLayer& layer, const FloatMatrix& base, int threads) {
  const std::int64_t taps = layer.shape.taps();
  FloatMatrix change = std::visit(
      Overloaded{
          [&](std::monostate) { return zero_matrix(layer.shape.out, layer.shape.columns()); },
          [&](const Factor& factor) { return matrix_of(factor, taps, threads); },
          [&](const Hadamard& hadamard) {
            FloatMatrix first = matrix_of(hadamard.first, taps, threads);
            const FloatMatrix second = matrix_of(hadamard.second, taps, threads);
            for_rows(first, threads, [&](std::int64_t o) {
              std::transform(first.row(o), first.row(o) + first.columns(), second.row(o), first.row(o),
                             std::multiplies<>());
            });
            return first;
          },
          [&](const Kronecker& factors) {
            return kronecker(matrix_of(factors.first, 1, threads), matrix_of(factors.second, taps, threads), threads);
          },
          [&](const Generalized& generalized) {
            const std::int64_t mixed = generalized.per_tap ? taps : 1;
            FloatMatrix sum = product_per_tap(product_per_tap(base, mixed, read_matrix(generalized.a_left), threads),
                                              mixed, read_matrix(generalized.a_right), threads);
            add_product(read_matrix(generalized.b_left), read_matrix(generalized.b_right), sum, threads);
            return sum;
          },
          [&](const Rotation& rotation) { return rotation_change(rotation, base, threads); },
          [&](const Scaling& scaling) { return scaling_change(scaling, base, taps, threads); }},
      layer.change);
  if (layer.scale != 1.0F) {
    for_rows(change, threads, [&](std::int64_t o) {
      for (std::int64_t i = 0; i < change.columns(); ++i) change.row(o)[i] *= layer.scale;
    });
  }
  if (layer.dora) decompose(layer, base, change, threads);
  return change;
}

}  // namespace darkroom::engine
