#include "engine/sampling/random.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

std::vector<float> drawn(TorchGenerator& generator, std::size_t count) {
  std::vector<float> values(count);
  generator.randn(values);
  return values;
}

TEST(TorchGenerator, IgnoresTheUpperHalfOfTheSeedAsTorchDoes) {
  TorchGenerator small(7);
  TorchGenerator large((1ULL << 40) + 7);
  EXPECT_EQ(drawn(small, 64), drawn(large, 64));
}

TEST(TorchGenerator, DrawsOnFromWhereItStopped) {
  TorchGenerator generator(1);
  EXPECT_NE(drawn(generator, 32), drawn(generator, 32));
}

TEST(TorchGenerator, IsStandardNormalForEveryRemainderOfSixteen) {
  for (const std::size_t count : {10007U, 10016U}) {
    TorchGenerator generator(3);
    double sum = 0.0;
    double squares = 0.0;
    for (const float x : drawn(generator, count)) {
      sum += x;
      squares += static_cast<double>(x) * x;
    }
    // Four standard errors of the mean and of the variance.
    EXPECT_NEAR(sum / static_cast<double>(count), 0.0, 4.0 / std::sqrt(count));
    EXPECT_NEAR(squares / static_cast<double>(count), 1.0, 4.0 * std::sqrt(2.0 / static_cast<double>(count)));
  }
}

}  // namespace
}  // namespace darkroom::engine
