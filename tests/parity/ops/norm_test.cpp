// Norms, the fast backend against the plain one.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

constexpr DType kF32 = DType::f32;
constexpr DType kBf16 = DType::bf16;

struct GroupNormCase {
  std::int64_t pictures = 1, height = 9, width = 17, channels = 320, channels2 = 0;
  DType x = kF32, x2 = kF32, y = kF32;
  Activation activation = Activation::silu;
  bool join = false;
  int groups = 32;
  float mean = 0.0F;
  std::int64_t gap = 0;
};

std::ostream& operator<<(std::ostream& out, const GroupNormCase& c) {
  return out << c.pictures << 'x' << c.height << 'x' << c.width << 'x' << c.channels << '+' << c.channels2 << ' '
             << to_string(c.x) << " to " << to_string(c.y);
}

class GroupNormParity : public testing::TestWithParam<GroupNormCase> {};

GroupNormResult run(Backend& backend, const GroupNormCase& c, std::int64_t first, std::int64_t count) {
  const auto input = [&](std::int64_t channels, DType type, unsigned seed) {
    std::vector<float> values = random_normal({c.pictures, c.height, c.width, channels}, seed);
    for (float& value : values) value += c.mean;
    return strided(backend, values, {c.pictures, c.height, c.width, channels}, type, c.gap).slice_batch(first, count);
  };
  const std::int64_t channels = c.channels + c.channels2;
  const Tensor x = input(c.channels, c.x, 1);
  const Tensor x2 = c.channels2 > 0 ? input(c.channels2, c.x2, 2) : Tensor{};
  const Tensor gamma = from_host(backend, random_normal({channels}, 3), {channels});
  const Tensor beta = from_host(backend, random_normal({channels}, 4), {channels});
  const GroupNormOptions options{
      .x2 = c.channels2 > 0 ? &x2 : nullptr, .groups = c.groups, .activation = c.activation, .out = c.y};
  if (c.join) return group_norm_and_join(x, gamma, beta, options);
  return {group_norm(x, gamma, beta, options), {}};
}

TEST_P(GroupNormParity, AgreesWithReference) {
  const GroupNormCase c = GetParam();
  // A float32 input whose mean is m deviations from zero is itself known to 2⁻²⁴·m of a deviation.
  const double limit = limit_for(c.y) + static_cast<double>(c.mean) * c.mean * 1.2e-14;
  expect_parity(limit, [&](Backend& backend) { return run(backend, c, 0, c.pictures).normalised; });
  if (c.join) {
    expect_parity(c.y == kF32 ? 0x1p-60 : kRounding,
                  [&](Backend& backend) { return run(backend, c, 0, c.pictures).joined; });
  }
}

TEST(GroupNorm, NormalisesWithTheMomentsThatItIsGiven) {
  for (const DType type : {kF32, kBf16}) {
    const std::vector<float> values = random_normal({2, 9, 17, 96}, 1);
    const auto norm = [&](Backend& backend, std::span<const Moments> given) {
      const Tensor ones = from_host(backend, std::vector<float>(96, 1.0F), {96});
      return group_norm(from_host(backend, values, {2, 9, 17, 96}, type), ones, ones, {.groups = 32, .given = given});
    };
    std::vector<Moments> others(64);
    for (std::size_t i = 0; i < others.size(); ++i)
      others[i] = {0.1 * static_cast<double>(i), 1.0 + static_cast<double>(i)};
    expect_parity(kSums, [&](Backend& backend) { return norm(backend, others); });
    // Its own, measured before, give what it gives without.
    expect_parity(kSums, [&](Backend& backend) {
      return norm(backend, group_moments(from_host(backend, values, {2, 9, 17, 96}, type), 32));
    });
    EXPECT_LT(nmse(to_host(norm(ref(), {})),
                   to_host(norm(ref(), group_moments(from_host(ref(), values, {2, 9, 17, 96}, type), 32)))),
              1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(
    SdxlShapes, GroupNormParity,
    testing::Values(GroupNormCase{.pictures = 2, .y = kBf16},
                    GroupNormCase{.height = 32, .width = 32, .channels = 640, .x = kBf16, .y = kBf16},
                    GroupNormCase{.channels = 1280, .channels2 = 1280, .y = kBf16, .join = true},
                    GroupNormCase{.channels = 1280, .channels2 = 640, .x2 = kBf16, .join = true},
                    GroupNormCase{.channels = 640, .channels2 = 320, .x = kBf16, .x2 = kBf16, .y = kBf16},
                    GroupNormCase{.channels = 512, .activation = Activation::none},
                    GroupNormCase{.height = 200, .width = 200, .channels = 128}));

INSTANTIATE_TEST_SUITE_P(
    OddShapes, GroupNormParity,
    testing::Values(GroupNormCase{.pictures = 3, .height = 1, .width = 1, .channels = 6, .groups = 3},
                    GroupNormCase{.channels = 33, .channels2 = 30, .join = true, .groups = 7, .gap = 5},
                    GroupNormCase{.channels = 10, .x = kBf16, .y = kBf16, .groups = 5, .gap = 2},
                    GroupNormCase{.height = 40, .width = 40, .channels = 64, .mean = 1000.0F}));

TEST(GroupNorm, PicturesDoNotDependOnTheirBatchOrTheThreads) {
  const GroupNormCase c{.pictures = 3, .height = 31, .width = 33, .channels = 96, .channels2 = 32, .x2 = kBf16};
  expect_independence([&](Backend& backend, std::int64_t first, std::int64_t count) {
    return run(backend, c, first, count).normalised;
  });
}

Tensor run_layer_norm(Backend& backend, std::int64_t channels, DType x, DType y, std::int64_t gap, float mean) {
  std::vector<float> values = random_normal({50, channels}, 1);
  for (float& value : values) value += mean;
  const Tensor gamma = from_host(backend, random_normal({channels}, 2), {channels});
  const Tensor beta = from_host(backend, random_normal({channels}, 3), {channels});
  return layer_norm(strided(backend, values, {2, 25, channels}, x, gap), gamma, beta, 1e-5F, y);
}

TEST(LayerNorm, AgreesWithReference) {
  for (const std::int64_t channels :
       {std::int64_t{3}, std::int64_t{77}, std::int64_t{640}, std::int64_t{768}, std::int64_t{1280}}) {
    for (const DType x : {kF32, kBf16}) {
      for (const DType y : {kF32, kBf16}) {
        SCOPED_TRACE(fmt::format("{} channels, {} to {}", channels, to_string(x), to_string(y)));
        expect_parity(limit_for(y), [&](Backend& backend) { return run_layer_norm(backend, channels, x, y, 0, 0); });
        expect_parity(limit_for(y), [&](Backend& backend) { return run_layer_norm(backend, channels, x, y, 4, 0); });
      }
    }
  }
  // See GroupNormParity: 100² · 1.2e-14, and as much again for the mean.
  expect_parity(kSums + 3e-10, [&](Backend& backend) { return run_layer_norm(backend, 1280, kF32, kF32, 0, 100.0F); });
  expect_parity(kSums + 3e-10, [&](Backend& backend) { return run_layer_norm(backend, 77, kF32, kF32, 0, 100.0F); });
}

}  // namespace
}  // namespace darkroom::engine
