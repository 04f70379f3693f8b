#include "engine/models/freeu.h"

#include <cmath>
#include <complex>
#include <numbers>

#include <gtest/gtest.h>

#include "engine/backend/ref/ref_backend.h"

namespace darkroom::engine {
namespace {

using Complex = std::complex<double>;

// The discrete transform of [h,w], forwards (sign −1) or backwards (sign 1, divided by the count), as its definition.
std::vector<Complex> transform(const std::vector<Complex>& in, int h, int w, int sign) {
  std::vector<Complex> out(in.size());
  for (int v = 0; v < h; ++v) {
    for (int u = 0; u < w; ++u) {
      Complex sum = 0;
      for (int y = 0; y < h; ++y) {
        for (int x = 0; x < w; ++x) {
          const double angle =
              sign * 2 * std::numbers::pi * (static_cast<double>(v * y) / h + static_cast<double>(u * x) / w);
          sum += in[static_cast<std::size_t>(y * w + x)] * std::polar(1.0, angle);
        }
      }
      out[static_cast<std::size_t>(v * w + u)] = sign > 0 ? sum / static_cast<double>(h * w) : sum;
    }
  }
  return out;
}

class FreeULevels : public testing::TestWithParam<int> {};

TEST_P(FreeULevels, ScalesHalfTheChannelsAndTheLowestFrequencies) {
  const int level = GetParam();
  constexpr int kHeight = 5, kWidth = 6, kChannels = 4;
  const auto backend = make_ref_backend();
  std::vector<float> values;
  for (int i = 0; i < kHeight * kWidth * kChannels; ++i) values.push_back(std::sin(static_cast<float>(i * i % 37)));
  Tensor hidden = from_host(*backend, values, {1, kHeight, kWidth, kChannels});
  Tensor skip = hidden;
  const FreeU freeu{.s1 = 0.9F, .s2 = 0.2F, .b1 = 1.3F, .b2 = 1.4F};
  apply_freeu(freeu, static_cast<std::size_t>(level), hidden, skip);
  const float backbone = level == 0 ? 1.3F : level == 1 ? 1.4F : 1.0F;
  const float low = level == 0 ? 0.9F : level == 1 ? 0.2F : 1.0F;

  const std::vector<float> got_hidden = to_host(hidden);
  const std::vector<float> got_skip = to_host(skip);
  for (std::size_t c = 0; c < kChannels; ++c) {
    std::vector<Complex> plane;
    for (std::size_t i = c; i < values.size(); i += kChannels) {
      plane.emplace_back(values[i]);
      EXPECT_FLOAT_EQ(got_hidden[i], c < kChannels / 2 ? values[i] * backbone : values[i]);
    }
    std::vector<Complex> spectrum = transform(plane, kHeight, kWidth, -1);
    // What the two by two square in the middle of the shifted spectrum holds: the constant and the frequencies −1.
    for (const int v : {0, kHeight - 1}) {
      for (const int u : {0, kWidth - 1}) spectrum[static_cast<std::size_t>(v * kWidth + u)] *= low;
    }
    const std::vector<Complex> filtered = transform(spectrum, kHeight, kWidth, 1);
    for (std::size_t i = 0; i < filtered.size(); ++i) {
      EXPECT_NEAR(got_skip[i * kChannels + c], filtered[i].real(), 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, FreeULevels, testing::Values(0, 1, 2));

}  // namespace
}  // namespace darkroom::engine
