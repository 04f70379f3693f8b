// The product that merging takes: right for every ragged shape, the same bits on any number of threads.
#include "engine/weights/lora_matrix.h"

#include <gtest/gtest.h>

#include "tests/unit/weights/lora_support.h"

namespace darkroom::engine {
namespace {

using test::expect_near;
using test::noise;
using test::rows_of;

TEST(LoraMatrix, ProductsOfEveryRaggedShapeAreAddedToTheBase) {
  for (const std::int64_t rows : {1, 3, 4, 5, 31, 33, 70}) {
    for (const std::int64_t columns : {1, 7, 15, 16, 64, 79, 131}) {
      for (const std::int64_t depth : {1, 2, 16, 40, 128, 300}) {
        const HostTensor a = noise("a", {rows, depth});
        const HostTensor b = noise("b", {depth, columns});
        const HostTensor base = noise("base", {rows, columns});
        const FloatMatrix sum = add_up({base, {{a, b, 0.5F}}}, 2);
        expect_near({.shape = {rows, columns}, .data = reinterpret_cast<const std::byte*>(sum.row(0))},
                    test::plus(rows_of(base), 0.5, test::times(rows_of(a), rows_of(b))));
      }
    }
  }
}

TEST(LoraMatrix, AnInverseTimesItsMatrixIsTheIdentity) {
  for (const std::int64_t n : {1, 2, 5, 16, 17, 40, 131}) {
    // I + Q with a skew-symmetric Q, and a symmetric positive definite part more.
    const HostTensor values = noise("values", {n, n});
    const FloatMatrix given = read_matrix(values);
    FloatMatrix matrix(n, n);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        matrix.row(i)[j] = (i == j ? 1.5F : 0.0F) + given.row(i)[j] - given.row(j)[i];
      }
    }
    const FloatMatrix one = product(matrix, inverse(matrix), 1);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j)
        ASSERT_NEAR(one.row(i)[j], i == j ? 1 : 0, 1e-5) << n << ": " << i << ", " << j;
    }
  }
}

TEST(LoraMatrix, WhatFailsOnAnyThreadIsThrown) {
  for (const int threads : {1, 3}) {
    const auto fails = [](std::int64_t i) {
      if (i == 5) throw std::bad_alloc();
    };
    EXPECT_THROW(side_by_side(9, 1 << 20, threads, fails), std::bad_alloc);
  }
}

TEST(LoraMatrix, TheNumberOfThreadsChangesNoBit) {
  const HostTensor base = noise("base", {300, 517});
  const TensorSum sum{base,
                      {{noise("a", {300, 16}), noise("b", {16, 517})}, {noise("c", {300, 3}), noise("d", {3, 517})}}};
  const FloatMatrix alone = add_up(sum, 1);
  for (const int threads : {2, 3, 8}) {
    const FloatMatrix together = add_up(sum, threads);
    EXPECT_TRUE(std::ranges::equal(alone.values(), together.values())) << threads << " threads";
  }
}

TEST(LoraMatrix, EveryHalfBecomesItsFloat) {
  std::vector<std::uint16_t> halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> floats(halves.size());
  to_float(DType::f16, reinterpret_cast<const std::byte*>(halves.data()), floats.data(), floats.size());
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float plain = f16_to_float(halves[i]);
    if (std::isnan(plain)) {
      ASSERT_TRUE(std::isnan(floats[i])) << i;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(floats[i]), std::bit_cast<std::uint32_t>(plain)) << i;
    }
  }
}

}  // namespace
}  // namespace darkroom::engine
