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
  if (dora.axis == DoraAxis::output) {
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
  const bool by_row = layer.dora->axis == DoraAxis::output;
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
  return layer.dora.has_value() || std::holds_alternative<Generalized>(layer.change);
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
          }},
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
