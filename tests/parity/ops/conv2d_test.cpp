// Convolutions, the fast backend against the plain one.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

struct ConvCase {
  std::int64_t pictures = 1, height = 9, width = 17;
  std::int64_t in = 320, out = 320;
  int kernel = 3;
  WeightUse use = WeightUse::conv2d;
  DType compute = DType::bf16;
  DType x = DType::bf16;
  DType y = DType::f32;
  int stride = 1;
  Padding padding{1, 1, 1, 1};
  bool wrap_x = false, wrap_y = false;
  bool row_bias = false, residual = false;
  Activation activation = Activation::none;
  bool slopes = false;
  std::int64_t gap = 0;
};

std::ostream& operator<<(std::ostream& out, const ConvCase& c) {
  return out << c.pictures << 'x' << c.height << 'x' << c.width << 'x' << c.in << " to " << c.out << " kernel "
             << c.kernel << (c.use == WeightUse::conv2d_upsample2x ? " doubled " : " ") << to_string(c.compute)
             << " stride " << c.stride;
}

class ConvParity : public testing::TestWithParam<ConvCase> {};

Tensor run(Backend& backend, const ConvCase& c, const RandomWeight& weight, std::int64_t first, std::int64_t count) {
  const Shape shape{c.pictures, c.height, c.width, c.in};
  const Tensor x = strided(backend, random_normal(shape, 2), shape, c.x, c.gap).slice_batch(first, count);
  const Tensor bias = from_host(backend, random_normal({c.out}, 3), {c.out});
  const Tensor row_bias =
      strided(backend, random_normal({c.pictures, c.out}, 4), {c.pictures, c.out}, DType::f32, c.gap)
          .slice_batch(first, count);
  const Tensor slopes = from_host(backend, random_normal({c.out}, 6), {c.out});
  const auto packed = weight.pack(backend, c.use, c.compute);
  Conv2dOptions options{.bias = &bias,
                        .row_bias = c.row_bias ? &row_bias : nullptr,
                        .activation = c.activation,
                        .slopes = c.slopes ? &slopes : nullptr,
                        .stride = c.stride,
                        .padding = c.padding,
                        .wrap_x = c.wrap_x,
                        .wrap_y = c.wrap_y,
                        .out = c.y};
  Tensor y = conv2d(x, *packed, options);
  if (!c.residual) return y;
  const Tensor residual = strided(backend, random_normal({c.pictures, y.elements() / count}, 5),
                                  {c.pictures, y.dim(1), y.dim(2), c.out}, c.y, c.gap)
                              .slice_batch(first, count);
  options.residual = &residual;
  return conv2d(x, *packed, options);
}

TEST_P(ConvParity, AgreesWithReference) {
  const ConvCase c = GetParam();
  const RandomWeight weight({c.out, c.in, c.kernel, c.kernel}, 1);
  // Two kernels' taps are summed before they are rounded to bfloat16, where the reference rounds each: a quarter of
  // one rounding's error for each weight.
  const double summed = c.use == WeightUse::conv2d_upsample2x && c.compute == DType::bf16 ? 2 * kRounding : 0;
  expect_parity(limit_for(c.y) + summed, [&](Backend& backend) { return run(backend, c, weight, 0, c.pictures); });
}

constexpr DType kF32 = DType::f32;
constexpr WeightUse kDoubled = WeightUse::conv2d_upsample2x;
constexpr Padding kNone{};
constexpr Padding kRightBottom{0, 0, 1, 1};

INSTANTIATE_TEST_SUITE_P(
    SdxlShapes, ConvParity,
    testing::Values(
        // The UNet's, at a latent of 9×17 pixels.
        ConvCase{.pictures = 2, .in = 4}, ConvCase{.in = 9, .x = kF32, .residual = true},
        ConvCase{.in = 320, .out = 320, .y = DType::bf16, .row_bias = true},
        ConvCase{.in = 960, .out = 640, .kernel = 1, .padding = kNone},
        ConvCase{.height = 5, .width = 9, .in = 1280, .out = 1280, .residual = true},
        ConvCase{.height = 3, .width = 5, .in = 2560, .out = 1280, .row_bias = true},
        ConvCase{.in = 320, .out = 4, .x = kF32}, ConvCase{.in = 320, .out = 320, .stride = 2},
        ConvCase{.height = 8, .width = 8, .in = 640, .out = 640, .use = kDoubled},
        ConvCase{.in = 320, .out = 320, .compute = kF32, .x = kF32, .row_bias = true, .residual = true},
        // The VAE's.
        ConvCase{.height = 24, .width = 24, .in = 3, .out = 128, .compute = kF32, .x = kF32},
        ConvCase{.height = 32, .width = 24, .in = 128, .out = 128, .stride = 2, .padding = kRightBottom},
        ConvCase{.height = 24, .width = 24, .in = 256, .out = 256, .use = kDoubled, .compute = kF32, .x = kF32},
        ConvCase{.height = 24, .width = 24, .in = 512, .out = 8},
        ConvCase{.height = 24, .width = 40, .in = 128, .out = 3, .activation = Activation::silu}));

INSTANTIATE_TEST_SUITE_P(
    OddShapes, ConvParity,
    testing::Values(
        ConvCase{.height = 1, .width = 1, .in = 3, .out = 5},
        ConvCase{.pictures = 3,
                 .height = 5,
                 .width = 7,
                 .in = 33,
                 .out = 47,
                 .x = kF32,
                 .row_bias = true,
                 .residual = true,
                 .gap = 3},
        ConvCase{.in = 66, .out = 30, .residual = true, .gap = 6},
        ConvCase{.height = 7, .width = 8, .in = 31, .out = 17, .compute = kF32, .x = kF32, .stride = 2, .gap = 1},
        ConvCase{.height = 8, .width = 7, .in = 16, .out = 32, .stride = 2, .padding = kRightBottom},
        ConvCase{.in = 16, .out = 32, .padding = kNone},
        ConvCase{.pictures = 2, .height = 3, .width = 4, .in = 5, .out = 9, .use = kDoubled, .residual = true}));

INSTANTIATE_TEST_SUITE_P(
    // More rows and outputs than a task has, sums in more than one piece of a tap and of several taps; rows of x that
    // lie evenly for a tile, at the edges of pictures and over their lines' ends.
    Tasks, ConvParity,
    testing::Values(
        ConvCase{.pictures = 2, .height = 20, .width = 24, .in = 704, .out = 48, .y = DType::bf16, .residual = true},
        ConvCase{.height = 40, .width = 16, .in = 64, .out = 700, .row_bias = true},
        ConvCase{.pictures = 3, .height = 9, .width = 37, .in = 96, .out = 33, .stride = 2},
        ConvCase{.height = 19, .width = 48, .in = 1344, .out = 40, .kernel = 1, .padding = kNone}));

INSTANTIATE_TEST_SUITE_P(
    Edges, ConvParity,
    testing::Values(
        // Edges that fill tiles of their own, pixels that see nothing at all, edges without a middle.
        ConvCase{.pictures = 2, .height = 16, .width = 16, .in = 64, .out = 40, .row_bias = true, .residual = true},
        ConvCase{.pictures = 2,
                 .height = 16,
                 .width = 16,
                 .in = 200,
                 .out = 40,
                 .compute = kF32,
                 .x = kF32,
                 .row_bias = true,
                 .residual = true},
        ConvCase{.pictures = 2, .height = 3, .width = 20, .in = 40, .out = 33, .padding = {4, 3, 5, 4}},
        ConvCase{.pictures = 3, .height = 2, .width = 9, .in = 40, .out = 33, .compute = kF32, .x = kF32},
        ConvCase{.pictures = 2, .height = 21, .width = 2, .in = 40, .out = 33, .stride = 2},
        ConvCase{.pictures = 2, .height = 16, .width = 12, .in = 40, .out = 33, .wrap_x = true}));

INSTANTIATE_TEST_SUITE_P(
    Wrapped, ConvParity,
    testing::Values(
        ConvCase{.in = 64, .out = 32, .wrap_x = true}, ConvCase{.in = 64, .out = 32, .wrap_y = true},
        ConvCase{.in = 4, .out = 32, .wrap_x = true, .wrap_y = true},
        ConvCase{.height = 2, .width = 3, .in = 64, .out = 32, .wrap_x = true, .wrap_y = true},
        ConvCase{.height = 8, .width = 6, .in = 64, .out = 32, .stride = 2, .wrap_x = true, .wrap_y = true},
        ConvCase{
            .height = 4, .width = 5, .in = 64, .out = 32, .use = kDoubled, .compute = kF32, .x = kF32, .wrap_x = true},
        ConvCase{.height = 4,
                 .width = 5,
                 .in = 64,
                 .out = 32,
                 .use = kDoubled,
                 .compute = kF32,
                 .x = kF32,
                 .wrap_x = true,
                 .wrap_y = true}));

INSTANTIATE_TEST_SUITE_P(
    Upscaler, ConvParity,
    testing::Values(
        // RRDBNet: dense blocks of 64 channels and steps of 32.
        ConvCase{.height = 12, .width = 20, .in = 96, .out = 32, .activation = Activation::leaky_relu},
        ConvCase{.height = 12, .width = 20, .in = 192, .out = 64, .compute = kF32, .x = kF32, .residual = true},
        // SRVGGNetCompact: a slope for each channel, and channels that fill no panel.
        ConvCase{.in = 64, .out = 64, .activation = Activation::leaky_relu, .slopes = true},
        ConvCase{.in = 3, .out = 41, .compute = kF32, .x = kF32, .activation = Activation::leaky_relu, .slopes = true},
        ConvCase{.in = 24,
                 .out = 24,
                 .use = kDoubled,
                 .residual = true,
                 .activation = Activation::leaky_relu,
                 .slopes = true}));

TEST(Conv2d, PicturesDoNotDependOnTheirBatchOrTheThreads) {
  for (const DType compute : {kF32, DType::bf16}) {
    for (const WeightUse use : {WeightUse::conv2d, kDoubled}) {
      const ConvCase c{.pictures = 3,
                       .height = 5,
                       .width = 9,
                       .in = 320,
                       .out = 70,
                       .use = use,
                       .compute = compute,
                       .row_bias = true};
      const RandomWeight weight({c.out, c.in, 3, 3}, 1);
      expect_independence([&](Backend& backend, std::int64_t first, std::int64_t count) {
        return run(backend, c, weight, first, count);
      });
    }
  }
}

TEST(Conv2d, SixteenBitsOfAFileGiveTheSameBitsAsTheirFloats) {
  for (const DType type : {DType::f16, DType::bf16}) {
    // Several taps to a piece that is widened; all of them; several pieces to a tap.
    for (const std::int64_t channels : {64, 7, 200}) {
      SCOPED_TRACE(fmt::format("{} {}", to_string(type), channels));
      const Shape shape{40, channels, 3, 3};
      std::vector<std::uint16_t> narrow;
      std::vector<float> wide;
      for (const float value : random_normal(shape, 7)) {
        narrow.push_back(type == DType::f16 ? float_to_f16(value) : float_to_bf16(value));
        wide.push_back(type == DType::f16 ? f16_to_float(narrow.back()) : bf16_to_float(narrow.back()));
      }
      for (const std::string& set : available_instruction_sets()) {
        const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
        const Tensor x = from_host(*backend, random_normal({2, 9, 11, channels}, 8), {2, 9, 11, channels});
        for (const WeightUse use : {WeightUse::conv2d, WeightUse::conv2d_upsample2x}) {
          const auto result = [&](DType as, const void* data) {
            const auto weight = backend->pack({.use = use,
                                               .compute = DType::f32,
                                               .parts = {{{.name = "weight",
                                                           .dtype = as,
                                                           .shape = shape,
                                                           .data = static_cast<const std::byte*>(data),
                                                           .owner = nullptr},
                                                          {}}}});
            return to_host(conv2d(x, *weight, {.padding = {1, 1, 1, 1}}));
          };
          EXPECT_EQ(result(type, narrow.data()), result(DType::f32, wide.data())) << set;
        }
      }
    }
  }
}

// The residual stream is added to where it lies: the same bits as beside it.
TEST(Conv2d, AddsInPlaceWhatItAddsElsewhere) {
  const RandomWeight weight({70, 64, 3, 3}, 1);
  for (const std::string& set : available_instruction_sets()) {
    const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
    for (const DType type : {kF32, DType::bf16}) {
      const Tensor x = from_host(*backend, random_normal({9, 11, 64}, 2), {1, 9, 11, 64}, type);
      const Tensor sum = from_host(*backend, random_normal({9, 11, 70}, 3), {1, 9, 11, 70}, type);
      const auto packed = weight.pack(*backend, WeightUse::conv2d, type);
      const Conv2dOptions options{.residual = &sum, .padding = {1, 1, 1, 1}, .out = type};
      const std::vector<float> beside = to_host(conv2d(x, *packed, options));
      conv2d_into(x, *packed, options, sum);
      EXPECT_EQ(to_host(sum), beside) << set;
    }
  }
}

TEST(Conv2d, WritesIntoARangeOfChannelsAndNowhereElse) {
  const RandomWeight weight({33, 64, 3, 3}, 1);
  for (const DType type : {kF32, DType::bf16}) {
    expect_parity(limit_for(type), [&](Backend& backend) {
      Tensor whole = from_host(backend, random_normal({6, 7, 128}, 2), {1, 6, 7, 128}, type);
      conv2d_into(whole.slice_channels(0, 64), *weight.pack(backend, WeightUse::conv2d, DType::bf16),
                  {.padding = {1, 1, 1, 1}, .out = type}, whole.slice_channels(64, 33));
      return whole;
    });
  }
}

}  // namespace
}  // namespace darkroom::engine
