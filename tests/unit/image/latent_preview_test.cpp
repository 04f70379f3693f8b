#include "engine/image/latent_preview.h"

#include <vector>

#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

TEST(LatentPreview, OfNothingIsTheMeanGrey) {
  const Image preview = latent_preview(std::vector<float>(2 * 3 * 4), 2, 3);
  EXPECT_EQ(preview.width, 3);
  EXPECT_EQ(preview.height, 2);
  for (const std::uint8_t value : preview.pixels) EXPECT_NEAR(value, 128, 15);
}

TEST(LatentPreview, BrightnessFollowsTheFirstChannelAndNoiseDoesNotSaturateIt) {
  const Image bright = latent_preview(std::vector<float>{1, 0, 0, 0}, 1, 1);
  const Image dark = latent_preview(std::vector<float>{-1, 0, 0, 0}, 1, 1);
  EXPECT_GT(bright.pixels[0], dark.pixels[0]);
  const Image loud = latent_preview(std::vector<float>{14, 0, 0, 0}, 1, 1);
  EXPECT_LT(loud.pixels[0], 255);
}

}  // namespace
}  // namespace darkroom::engine
