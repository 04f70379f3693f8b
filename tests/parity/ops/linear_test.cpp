// Linear layers, the fast backend against the plain one.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

struct LinearCase {
  std::int64_t rows, in, out;
  DType compute = DType::bf16;
  DType x = DType::bf16;
  DType y = DType::f32;
  WeightUse use = WeightUse::linear;
  Activation activation = Activation::none;
  std::int64_t gap = 0;
  bool residual = false;
  float scale = 1.0F;
};

std::ostream& operator<<(std::ostream& out, const LinearCase& c) {
  return out << c.rows << 'x' << c.in << 'x' << c.out << ' ' << to_string(c.compute) << ' ' << to_string(c.x) << " to "
             << to_string(c.y) << " act " << static_cast<int>(c.activation) << " gap " << c.gap;
}

class LinearParity : public testing::TestWithParam<LinearCase> {};

TEST_P(LinearParity, AgreesWithReference) {
  const LinearCase c = GetParam();
  const bool geglu = c.use == WeightUse::linear_geglu;
  const std::int64_t columns = geglu ? 2 * c.out : c.out;
  const RandomWeight weight({columns, c.in}, 1);
  expect_parity(limit_for(c.y), [&](Backend& backend) {
    const Tensor x = strided(backend, random_normal({c.rows, c.in}, 2), {c.rows, c.in}, c.x, c.gap);
    const Tensor bias = from_host(backend, random_normal({columns}, 3), {columns});
    const Tensor residual = strided(backend, random_normal({c.rows, c.out}, 4), {c.rows, c.out}, c.y, c.gap);
    return linear(x, *weight.pack(backend, c.use, c.compute),
                  {.bias = &bias,
                   .residual = c.residual ? &residual : nullptr,
                   .activation = c.activation,
                   .scale = c.scale,
                   .out = c.y});
  });
}

// The residual stream is added to where it lies: the same bits as beside it.
TEST(Linear, AddsInPlaceWhatItAddsElsewhere) {
  const RandomWeight weight({200, 640}, 1);
  for (const std::string& set : available_instruction_sets()) {
    const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
    for (const DType type : {DType::f32, DType::bf16}) {
      const Tensor x = from_host(*backend, random_normal({77, 640}, 2), {77, 640}, type);
      const Tensor sum = from_host(*backend, random_normal({77, 200}, 3), {77, 200}, DType::f32);
      const auto packed = weight.pack(*backend, WeightUse::linear, type);
      const LinearOptions options{.residual = &sum, .out = DType::f32};
      const std::vector<float> beside = to_host(linear(x, *packed, options));
      linear_into(x, *packed, options, sum);
      EXPECT_EQ(to_host(sum), beside) << set;
    }
  }
}

constexpr DType kF32 = DType::f32;
constexpr DType kBf16 = DType::bf16;

INSTANTIATE_TEST_SUITE_P(
    SdxlShapes, LinearParity,
    testing::Values(
        // The UNet's blocks with a batch of 2 at 512², fewer rows; and the prompt's.
        LinearCase{.rows = 128, .in = 640, .out = 640, .y = kBf16, .residual = true},
        LinearCase{.rows = 128, .in = 1280, .out = 1280},
        LinearCase{.rows = 100, .in = 640, .out = 2560, .y = kBf16, .use = WeightUse::linear_geglu},
        LinearCase{.rows = 64, .in = 1280, .out = 5120, .use = WeightUse::linear_geglu},
        LinearCase{.rows = 64, .in = 5120, .out = 1280, .y = kBf16, .residual = true},
        LinearCase{.rows = 154, .in = 2048, .out = 1280},
        LinearCase{.rows = 64, .in = 640, .out = 2560, .compute = kF32, .x = kF32, .use = WeightUse::linear_geglu},
        LinearCase{.rows = 100, .in = 1280, .out = 640, .compute = kF32, .x = kF32, .residual = true},
        // Time, text encoders.
        LinearCase{.rows = 2, .in = 2816, .out = 1280, .x = kF32, .activation = Activation::silu},
        LinearCase{.rows = 77, .in = 768, .out = 3072, .activation = Activation::quick_gelu},
        LinearCase{.rows = 77, .in = 1280, .out = 5120, .compute = kF32, .x = kF32, .activation = Activation::gelu}));

INSTANTIATE_TEST_SUITE_P(
    OddShapes, LinearParity,
    testing::Values(
        LinearCase{.rows = 1, .in = 1, .out = 1, .compute = kF32, .x = kF32}, LinearCase{.rows = 1, .in = 1, .out = 1},
        LinearCase{.rows = 13, .in = 9, .out = 3, .y = kBf16},
        LinearCase{.rows = 25, .in = 77, .out = 33, .gap = 3, .residual = true},
        LinearCase{
            .rows = 31, .in = 64, .out = 47, .compute = kF32, .x = kBf16, .y = kBf16, .gap = 6, .residual = true},
        LinearCase{.rows = 27, .in = 65, .out = 31, .x = kF32, .activation = Activation::relu, .gap = 1, .scale = 0.5F},
        LinearCase{.rows = 29,
                   .in = 36,
                   .out = 50,
                   .compute = kF32,
                   .x = kF32,
                   .activation = Activation::leaky_relu,
                   .residual = true,
                   .scale = 0.2F},
        LinearCase{.rows = 19, .in = 51, .out = 21, .use = WeightUse::linear_geglu},
        LinearCase{
            .rows = 19, .in = 51, .out = 21, .compute = kF32, .x = kF32, .use = WeightUse::linear_geglu, .gap = 5}));

TEST(Linear, RowsDoNotDependOnTheirBatchOrTheThreads) {
  for (const DType compute : {kF32, kBf16}) {
    const RandomWeight weight({640, 640}, 1);
    const std::vector<float> x = random_normal({3, 41, 640}, 2);
    expect_independence([&](Backend& backend, std::int64_t first, std::int64_t count) {
      const auto packed = weight.pack(backend, WeightUse::linear_geglu, compute);
      return linear(from_host(backend, x, {3, 41, 640}).slice_batch(first, count), *packed, {});
    });
  }
}

TEST(Linear, ResidualMayBeTheResultItself) {
  const RandomWeight weight({320, 320}, 1);
  for (const DType type : {kF32, kBf16}) {
    expect_parity(limit_for(type), [&](Backend& backend) {
      const Tensor x = from_host(backend, random_normal({50, 320}, 2), {50, 320}, kBf16);
      Tensor y = from_host(backend, random_normal({50, 320}, 3), {50, 320}, type);
      backend.linear({.x = x, .weight = *weight.pack(backend, WeightUse::linear, kBf16), .residual = &y}, y);
      return y;
    });
  }
}

TEST(Linear, TakesWeightsOfEveryFloatingTypeInParts) {
  for (const DType type : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2}) {
    SCOPED_TRACE(to_string(type));
    // Any bytes whose highest keeps the value near 1 are a fine weight of any type.
    std::vector<std::uint8_t> bytes(std::size_t{48} * 70 * size_of(type));
    std::mt19937 engine(static_cast<unsigned>(type));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const bool highest = (i + 1) % size_of(type) == 0;
      const unsigned low = size_of(type) == 1 ? engine() % 16 : 15;
      bytes[i] = static_cast<std::uint8_t>(highest ? 0x30 + low + engine() % 2 * 0x80 : engine() % 256);
    }
    for (const DType compute : {kF32, kBf16}) {
      const auto part = [&](std::int64_t rows, std::size_t skip) {
        return HostTensor{.name = "part",
                          .dtype = type,
                          .shape = {rows, 70},
                          .data = reinterpret_cast<const std::byte*>(bytes.data()) + skip * size_of(type),
                          .owner = nullptr};
      };
      expect_parity(kSums, [&](Backend& backend) {
        const auto packed = backend.pack({.use = WeightUse::linear,
                                          .compute = compute,
                                          .parts = {{part(17, 0), {}}, {part(3, 1190), {}}, {part(28, 1400), {}}}});
        return linear(from_host(backend, random_normal({5, 70}, 6), {5, 70}), *packed, {});
      });
    }
  }
}

// What a file has in 16 bits lies so in the panels of float32 products, which must not be seen in a single bit.
TEST(Linear, SixteenBitsOfAFileGiveTheSameBitsAsTheirFloats) {
  for (const DType type : {DType::f16, DType::bf16}) {
    // The last has several blocks of rows, groups of panels and pieces of a panel, none of them even.
    for (const auto& size : {std::pair<std::int64_t, std::int64_t>{640, 100}, {71, 33}, {9, 5}, {2, 64}, {330, 620}}) {
      const auto in = size.first;
      const auto out = size.second;
      SCOPED_TRACE(fmt::format("{} {} to {}", to_string(type), in, out));
      std::vector<std::uint16_t> narrow;
      std::vector<float> wide;
      for (const float value : random_normal({out, in}, 7)) {
        narrow.push_back(type == DType::f16 ? float_to_f16(value) : float_to_bf16(value));
        // Subnormal ones too.
        if (narrow.size() % 5 == 0) narrow.back() &= 0x83FF;
        wide.push_back(type == DType::f16 ? f16_to_float(narrow.back()) : bf16_to_float(narrow.back()));
      }
      const auto pack = [&](Backend& backend, WeightUse use, DType as, const void* data) {
        const HostTensor weight{.name = "weight",
                                .dtype = as,
                                .shape = {out, in},
                                .data = static_cast<const std::byte*>(data),
                                .owner = nullptr};
        PackRequest request{.use = use, .compute = kF32, .parts = {{weight, {}}}};
        if (use == WeightUse::linear_geglu) request.parts.push_back({weight, {}});
        return backend.pack(request);
      };
      for (const std::string& set : available_instruction_sets()) {
        const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
        const std::int64_t rows = out > 512 ? 401 : 23;
        const Tensor x = strided(*backend, random_normal({rows, in}, 8), {rows, in}, kF32, 3);
        for (const WeightUse use : {WeightUse::linear, WeightUse::linear_geglu}) {
          const auto halves = pack(*backend, use, type, narrow.data());
          const auto floats = pack(*backend, use, kF32, wide.data());
          EXPECT_EQ(to_host(linear(x, *halves, {})), to_host(linear(x, *floats, {}))) << set;
          const bool odd = type == DType::bf16 && in % 2 == 1;  // bfloat16 lies in pairs
          EXPECT_EQ(set == "baseline" || odd ? halves->bytes() : 2 * halves->bytes(), floats->bytes()) << set;
        }
      }
    }
  }
}

}  // namespace
}  // namespace darkroom::engine
