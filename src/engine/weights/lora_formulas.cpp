#include "engine/weights/lora_formulas.h"

#include <algorithm>
#include <cmath>
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

FloatMatrix kronecker(const FloatMatrix& a, const FloatMatrix& b) {
  FloatMatrix out(a.rows() * b.rows(), a.columns() * b.columns());
  for (std::int64_t i = 0; i < out.rows(); ++i) {
    const float* factors = a.row(i / b.rows());
    const float* values = b.row(i % b.rows());
    float* to = out.row(i);
    for (std::int64_t j = 0; j < a.columns(); ++j) {
      for (std::int64_t k = 0; k < b.columns(); ++k) *to++ = factors[j] * values[k];
    }
  }
  return out;
}

// The lengths of W's rows, or of its input channels over all rows and taps.
std::vector<double> lengths(const FloatMatrix& weight, DoraAxis axis, const AdaptedShape& shape) {
  std::vector<double> squares(static_cast<std::size_t>(axis == DoraAxis::output ? shape.out : shape.in));
  for (std::int64_t o = 0; o < weight.rows(); ++o) {
    for (std::int64_t i = 0; i < weight.columns(); ++i) {
      const double value = weight.row(o)[i];
      squares[static_cast<std::size_t>(axis == DoraAxis::output ? o : i / shape.taps())] += value * value;
    }
  }
  for (double& square : squares) square = std::sqrt(square);
  return squares;
}

// ΔW becomes m·(W + ΔW)/‖W + ΔW‖ − W. A strength then leads from W straight to there.
void decompose(const AdapterLayer& layer, const FloatMatrix& base, FloatMatrix& change) {
  FloatMatrix& adapted = change;
  add_scaled(1.0F, base.values(), adapted.values(), 1);
  const Dora& dora = *layer.dora;
  const FloatMatrix wanted = read_matrix(dora.scale);
  const std::vector<double> lengths_now = lengths(adapted, dora.axis, layer.shape);
  std::vector<float> factors(lengths_now.size());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    // A row of zeros has no direction to be given a length in.
    factors[i] = lengths_now[i] > 0 ? static_cast<float>(wanted.values()[i] / lengths_now[i]) : 0.0F;
  }
  for (std::int64_t o = 0; o < change.rows(); ++o) {
    float* row = change.row(o);
    for (std::int64_t i = 0; i < change.columns(); ++i) {
      const std::int64_t group = dora.axis == DoraAxis::output ? o : i / layer.shape.taps();
      row[i] = row[i] * factors[static_cast<std::size_t>(group)] - base.row(o)[i];
    }
  }
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
      Overloaded{[&](std::monostate) { return zero_matrix(layer.shape.out, layer.shape.columns()); },
                 [&](const Factor& factor) { return matrix_of(factor, taps, threads); },
                 [&](const Hadamard& hadamard) {
                   FloatMatrix first = matrix_of(hadamard.first, taps, threads);
                   const FloatMatrix second = matrix_of(hadamard.second, taps, threads);
                   std::ranges::transform(first.values(), second.values(), first.values().begin(), std::multiplies<>());
                   return first;
                 },
                 [&](const Kronecker& factors) {
                   return kronecker(matrix_of(factors.first, 1, threads), matrix_of(factors.second, taps, threads));
                 },
                 [&](const Generalized& generalized) {
                   const std::int64_t mixed = generalized.per_tap ? taps : 1;
                   FloatMatrix sum =
                       product_per_tap(product_per_tap(base, mixed, read_matrix(generalized.a_left), threads), mixed,
                                       read_matrix(generalized.a_right), threads);
                   add_product(read_matrix(generalized.b_left), read_matrix(generalized.b_right), sum, threads);
                   return sum;
                 }},
      layer.change);
  if (layer.scale != 1.0F) {
    for (float& value : change.values()) value *= layer.scale;
  }
  if (layer.dora) decompose(layer, base, change);
  return change;
}

}  // namespace darkroom::engine
