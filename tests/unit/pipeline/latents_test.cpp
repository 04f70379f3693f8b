#include "engine/pipeline/latents.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

using testing::ElementsAre;

TEST(ResizeLatents, IsBilinearWithoutAlignedCorners) {
  const LatentShape from{.pictures = 1, .height = 1, .width = 2, .channels = 1};
  const LatentShape to{.pictures = 1, .height = 2, .width = 4, .channels = 1};
  EXPECT_THAT(resize_latents(std::vector<float>{0, 4}, from, to), ElementsAre(0, 1, 3, 4, 0, 1, 3, 4));
}

TEST(ResizeLatents, KeepsChannelsAndPicturesApart) {
  const LatentShape from{.pictures = 2, .height = 1, .width = 1, .channels = 2};
  const LatentShape to{.pictures = 2, .height = 1, .width = 2, .channels = 2};
  EXPECT_THAT(resize_latents(std::vector<float>{1, 2, 3, 4}, from, to), ElementsAre(1, 2, 1, 2, 3, 4, 3, 4));
}

TEST(MixNoise, TurnsFromOneToTheOtherAtTheirLength) {
  const LatentShape shape{.pictures = 1, .height = 2, .width = 1, .channels = 1};
  const std::vector<float> b = {0, 1};
  std::vector<float> a = {1, 0};
  mix_noise(a, b, 1.0F / 3.0F, shape);  // 30 of 90 degrees
  EXPECT_NEAR(a[0], std::sqrt(3.0) / 2, 1e-6);
  EXPECT_NEAR(a[1], 0.5, 1e-6);
}

TEST(MixNoise, OfEqualNoisesIsThatNoise) {
  const LatentShape shape{.pictures = 1, .height = 2, .width = 1, .channels = 1};
  std::vector<float> a = {1, -2};
  mix_noise(a, std::vector<float>{1, -2}, 0.5F, shape);
  EXPECT_THAT(a, ElementsAre(1, -2));
}

}  // namespace
}  // namespace darkroom::engine
