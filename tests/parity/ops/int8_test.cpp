// int8 products, where the processor has them, against the plain backend's float32.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

// Rounding to 1/127 of the largest moves values by up to half of that, (3.5/127)² / 12 = 6e-5 of their power where the
// largest is 3.5 deviations; inputs and weights are both rounded.
constexpr double kQuantized = 2e-4;

void expect_close(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_LT(nmse(got, want), kQuantized);
}
void expect_equal(const std::vector<float>& got, const std::vector<float>& want) { EXPECT_EQ(got, want); }

// Runs `op` (Backend&, compute type → Tensor) in float32 plainly, and in int8 with every instruction set that has it.
template <class Op, class Check>
void with_int8(const Op& op, const Check& check) {
  const std::vector<float> want = to_host(op(ref(), DType::f32));
  for (const std::string& set : available_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
    if (backend->has_fast(DType::i8)) check(to_host(op(*backend, DType::i8)), want);
  }
}

TEST(Int8, LinearLayersAgreeWithinTheirRounding) {
  const RandomWeight weight({192, 640}, 1);
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t out : {192, 96}) {
      const auto op = [&](Backend& backend, DType compute) {
        const WeightUse use = out == 192 ? WeightUse::linear : WeightUse::linear_geglu;
        const Tensor x = strided(backend, random_normal({50, 640}, 2), {50, 640}, type, 4);
        const Tensor bias = from_host(backend, random_normal({192}, 3), {192});
        const Tensor residual = from_host(backend, random_normal({50, out}, 4), {50, out});
        return linear(x, *weight.pack(backend, use, compute), {.bias = &bias, .residual = &residual, .scale = 0.5F});
      };
      with_int8(op, expect_close);
    }
  }
}

TEST(Int8, RowsOfVeryDifferentSizesKeepTheirOwnFactors) {
  const RandomWeight weight({64, 320}, 1);
  std::vector<float> x = random_normal({8, 320}, 2);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t row = i / 320;
    x[i] *= std::pow(10.0F, static_cast<float>(row) - 4);
  }
  for (std::int64_t row = 0; row < 8; ++row) {
    const auto op = [&](Backend& backend, DType compute) {
      const Tensor all = linear(from_host(backend, x, {8, 320}), *weight.pack(backend, WeightUse::linear, compute), {});
      return all.slice_batch(row, 1);
    };
    with_int8(op, expect_close);
  }
}

// Whole numbers whose rows all reach 127: their factors are 1, and every sum is exact.
std::vector<float> whole_numbers(std::int64_t rows, std::int64_t length, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<float> values(static_cast<std::size_t>(rows * length));
  for (float& value : values) value = static_cast<float>(static_cast<int>(engine() % 255) - 127);
  for (std::int64_t row = 0; row < rows; ++row) values[static_cast<std::size_t>(row * length + row % length)] = 127.0F;
  return values;
}

struct WholeConv {
  std::int64_t in, out;
  int kernel = 3, stride = 1;
  bool wrap = false;
  int pad = kernel / 2;
};

TEST(Int8, ConvolutionsOfWholeNumbersAreExact) {
  for (const WholeConv& c : {WholeConv{3, 5}, WholeConv{4, 70}, WholeConv{33, 32}, WholeConv{70, 34},
                             WholeConv{64, 40, 1}, WholeConv{301, 40, 1}, WholeConv{20, 33, 3, 2},
                             WholeConv{20, 33, 3, 1, true}, WholeConv{20, 33, 3, 1, false, 4}, WholeConv{64, 70},
                             WholeConv{192, 33, 3, 2}, WholeConv{64, 40, 3, 1, true}, WholeConv{128, 5, 1}}) {
    SCOPED_TRACE(fmt::format("{} to {} kernel {} stride {}", c.in, c.out, c.kernel, c.stride));
    const std::vector<float> weight = whole_numbers(c.out, c.in * c.kernel * c.kernel, 1);
    const HostTensor part{.name = "weight",
                          .dtype = DType::f32,
                          .shape = {c.out, c.in, c.kernel, c.kernel},
                          .data = reinterpret_cast<const std::byte*>(weight.data()),
                          .owner = nullptr};
    const auto op = [&](Backend& backend, DType compute) {
      const Tensor x = from_host(backend, whole_numbers(std::int64_t{2} * 9 * 17, c.in, 2), {2, 9, 17, c.in});
      const auto packed = backend.pack({.use = WeightUse::conv2d, .compute = compute, .parts = {{part, {}}}});
      return conv2d(x, *packed,
                    {.stride = c.stride, .padding = {c.pad, c.pad, c.pad, c.pad}, .wrap_x = c.wrap, .wrap_y = c.wrap});
    };
    with_int8(op, expect_equal);
  }
}

TEST(Int8, ConvolutionsOfDoubledPicturesAgreeWithinTheirRounding) {
  const RandomWeight weight({40, 64, 3, 3}, 1);
  const auto op = [&](Backend& backend, DType compute) {
    const Tensor x = from_host(backend, random_normal({2, 5, 7, 64}, 2), {2, 5, 7, 64});
    return conv2d(x, *weight.pack(backend, WeightUse::conv2d_upsample2x, compute), {.padding = {1, 1, 1, 1}});
  };
  with_int8(op, expect_close);
}

TEST(Int8, PicturesDoNotDependOnTheirBatchOrTheThreads) {
  const RandomWeight weight({70, 320, 3, 3}, 1);
  const std::vector<float> x = random_normal({3, 5, 9, 320}, 2);
  expect_independence([&](Backend& backend, std::int64_t first, std::int64_t count) {
    const DType compute = backend.has_fast(DType::i8) ? DType::i8 : DType::bf16;
    return conv2d(from_host(backend, x, {3, 5, 9, 320}).slice_batch(first, count),
                  *weight.pack(backend, WeightUse::conv2d, compute), {.padding = {1, 1, 1, 1}});
  });
}

TEST(Int8, WhatIsNotFiniteStaysSo) {
  const auto backend = make_cpu_backend();
  if (!backend->has_fast(DType::i8)) GTEST_SKIP() << "this machine has no int8 products";
  const auto weight = RandomWeight({32, 64}, 1).pack(*backend, WeightUse::linear, DType::i8);
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> x = random_normal({64}, 2);
    x[10] = bad;
    EXPECT_FALSE(all_finite(linear(from_host(*backend, x, {1, 64}), *weight, {})));
  }
}

TEST(Int8, WeightsThatAreNotFiniteStaySo) {
  const auto backend = make_cpu_backend();
  if (!backend->has_fast(DType::i8)) GTEST_SKIP() << "this machine has no int8 products";
  const Shape shape{32, 64};
  const Tensor x = from_host(*backend, random_normal({1, 64}, 2), {1, 64});
  const RandomWeight left({32, 3}, 3);
  const RandomWeight right({3, 64}, 4);
  const LowRankProduct product{.left = left.tensor(), .right = right.tensor()};
  for (const float bad : {INFINITY, NAN}) {
    std::vector<float> floats = random_normal(shape, 1);
    floats[5 * 64 + 10] = bad;  // not the last of its column, nor of the file
    std::vector<std::uint16_t> halves;
    std::vector<std::uint16_t> bfloats;
    for (const float value : floats) {
      halves.push_back(float_to_f16(value));
      bfloats.push_back(float_to_bf16(value));
    }
    const auto tensor = [&](DType type, const auto& values) {
      return HostTensor{.name = "weight",
                        .dtype = type,
                        .shape = shape,
                        .data = reinterpret_cast<const std::byte*>(values.data()),
                        .owner = nullptr};
    };
    for (const HostTensor& part :
         {tensor(DType::f32, floats), tensor(DType::f16, halves), tensor(DType::bf16, bfloats)}) {
      for (const std::size_t products : {0, 1}) {
        SCOPED_TRACE(fmt::format("{} in {}, {} products", bad, to_string(part.dtype), products));
        const auto weight = backend->pack({.use = WeightUse::linear,
                                           .compute = DType::i8,
                                           .parts = {{part, std::vector<LowRankProduct>(products, product)}}});
        const std::vector<float> y = to_host(linear(x, *weight, {}));
        for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isfinite(y[i]), i != 5) << i;
      }
    }
  }
}

TEST(Int8, InstructionSetsWithoutItRefuseTheWeight) {
  const RandomWeight weight({32, 64}, 1);
  for (const std::string& set : available_instruction_sets()) {
    const auto backend = make_cpu_backend({.threads = 1, .instruction_set = set});
    if (backend->has_fast(DType::i8)) continue;
    try {
      weight.pack(*backend, WeightUse::linear, DType::i8);
      FAIL() << set << " took it";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.error().code, ErrorCode::unsupported);
    }
  }
}

}  // namespace
}  // namespace darkroom::engine
