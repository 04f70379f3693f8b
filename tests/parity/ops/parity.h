// What the parity tests share: seeded inputs, both backends, and how far apart two results may be.
//
// Limits are normalised mean square errors, Σ(got − want)² / Σ want²:
//   kSums      both sides sum in float32, in different orders; at K = 23040 terms, the longest here, a sum's own
//              rounding is about K/6 · (2⁻²⁴)² = 1.4e-11.
//   kRounding  the result is bfloat16: one rounding moves it by up to 2⁻⁸ of itself, (2⁻⁸)² / 6 = 2.5e-6 on average.
//   kWeights   attention's weights are bfloat16 too: three such roundings, theirs and one of each side's result.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"
#include "engine/backend/ref/ref_backend.h"

namespace darkroom::engine {

inline constexpr double kSums = 1e-10;
inline constexpr double kRounding = 2.6e-6;
inline constexpr double kWeights = 7.8e-6;

inline double limit_for(DType out) { return out == DType::bf16 ? kRounding : kSums; }

inline std::vector<float> random_normal(const Shape& shape, unsigned seed, float scale = 1.0F) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  for (float& value : values) value = normal(engine);
  return values;
}

// A weight of a file, its values such that a sum over `fan_in` of them is about 1.
class RandomWeight {
 public:
  RandomWeight(const Shape& shape, unsigned seed)
      : shape_(shape),
        values_(random_normal(shape, seed,
                              std::sqrt(static_cast<float>(shape[0]) / static_cast<float>(shape.elements())))) {}

  HostTensor tensor() const {
    return {.name = "weight",
            .dtype = DType::f32,
            .shape = shape_,
            .data = reinterpret_cast<const std::byte*>(values_.data()),
            .owner = nullptr};
  }
  std::shared_ptr<const PackedWeight> pack(Backend& backend, WeightUse use, DType compute) const {
    return backend.pack({.use = use, .compute = compute, .parts = {{tensor(), {}}}});
  }

 private:
  Shape shape_;
  std::vector<float> values_;
};

// A tensor whose rows lie `gap` elements further apart than they are long.
inline Tensor strided(Backend& backend, const std::vector<float>& values, const Shape& shape, DType type,
                      std::int64_t gap) {
  if (gap == 0) return from_host(backend, values, shape, type);
  const std::int64_t channels = shape[-1];
  const std::int64_t rows = shape.elements() / channels;
  std::vector<float> spread(static_cast<std::size_t>(rows * (channels + gap)),
                            std::nanf(""));  // the gaps poison what reads them
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy_n(values.begin() + r * channels, channels, spread.begin() + r * (channels + gap) + gap / 2);
  }
  return from_host(backend, spread, {rows, channels + gap}, type).slice_channels(gap / 2, channels).reshape(shape);
}

inline double nmse(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  double error = 0;
  double power = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - want[i];
    error += difference * difference;
    power += static_cast<double>(want[i]) * want[i];
  }
  return error / power;  // NaN, where one is among them, is below no limit
}

inline Backend& ref() {
  static const std::unique_ptr<Backend> backend = make_ref_backend();
  return *backend;
}

// Runs `op` (Backend& → Tensor) plainly once, and with every instruction set on two threads.
template <class Op>
void expect_parity(double limit, const Op& op) {
  const std::vector<float> want = to_host(op(ref()));
  for (const std::string& set : available_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
    EXPECT_LT(nmse(to_host(op(*backend)), want), limit);
  }
}

// `op` (Backend&, first picture, pictures → Tensor) gives the same bits for three pictures on one thread, for the same
// on three, and for each of them alone.
template <class Op>
void expect_independence(const Op& op) {
  constexpr std::int64_t kPictures = 3;
  for (const std::string& set : available_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto one = make_cpu_backend({.threads = 1, .instruction_set = set});
    const auto three = make_cpu_backend({.threads = 3, .instruction_set = set});
    const std::vector<float> together = to_host(op(*one, 0, kPictures));
    EXPECT_EQ(to_host(op(*three, 0, kPictures)), together);
    std::vector<float> alone;
    for (std::int64_t picture = 0; picture < kPictures; ++picture) {
      const std::vector<float> values = to_host(op(*three, picture, 1));
      alone.insert(alone.end(), values.begin(), values.end());
    }
    EXPECT_EQ(alone, together);
  }
}

}  // namespace darkroom::engine
