#include "engine/image/pixels.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "engine/image/compare.h"
#include "engine/image/resize.h"
#include "pictures.h"

namespace darkroom::engine {
namespace {

Image row_of(std::vector<std::uint8_t> values) {
  Image image(static_cast<int>(values.size()), 1, 1);
  image.pixels = std::move(values);
  return image;
}

TEST(Pixels, GoToSignedFloatsAndBack) {
  EXPECT_EQ(to_signed_floats(row_of({0, 255})), (std::vector<float>{-1, 1}));
  Image all(256, 1, 1);
  for (int i = 0; i < 256; ++i) all.pixels[i] = static_cast<std::uint8_t>(i);
  EXPECT_EQ(from_unit_floats(to_unit_floats(all), 256, 1, 1), all);
}

TEST(Pixels, AreRoundedToTheNearestAndHeldToTheirRange) {
  const std::vector<float> values{-3, 2, 0.5F / 255, 1.5F / 255, 1.49F / 255, std::nanf(""), INFINITY, -INFINITY};
  EXPECT_EQ(from_unit_floats(values, 8, 1, 1), row_of({0, 255, 0, 2, 1, 0, 255, 0}));
}

TEST(Mask, IsSplitAtOneHalf) { EXPECT_EQ(binarize(row_of({0, 127, 128, 255})), row_of({0, 0, 255, 255})); }

TEST(Mask, GrowsByItsRadiusEachWay) {
  Image dot(7, 7, 1);
  dot.row(3)[3] = 255;
  const Image grown = dilate(dot, 2);
  EXPECT_EQ(std::count(grown.pixels.begin(), grown.pixels.end(), 255), 25);
  EXPECT_EQ(grown.row(1)[1], 255);
  EXPECT_EQ(grown.row(0)[3], 0);
  EXPECT_EQ(dilate(dot, 0), dot);
  const Image white = dilate(dot, 100);
  EXPECT_TRUE(std::all_of(white.pixels.begin(), white.pixels.end(), [](int v) { return v == 255; }));
}

TEST(Outpainting, ContinuesTheEdgeAndMasksWhatIsNew) {
  Image picture(2, 1, 1);
  picture.pixels = {10, 20};
  const Margins margins{.left = 1, .top = 1, .right = 2, .bottom = 0};
  EXPECT_EQ(extend_picture(picture, margins).pixels,
            (std::vector<std::uint8_t>{10, 10, 20, 20, 20, 10, 10, 20, 20, 20}));
  EXPECT_EQ(extend_mask(Image(2, 1, 1), margins).pixels,
            (std::vector<std::uint8_t>{255, 255, 255, 255, 255, 255, 0, 0, 255, 255}));
  EXPECT_EQ(extend_picture(picture, {}), picture);
}

TEST(Blur, LeavesAPlainPicturePlainAndAtRadiusZeroAnyPicture) {
  Image plain(20, 10, 3);
  std::fill(plain.pixels.begin(), plain.pixels.end(), std::uint8_t{201});
  EXPECT_EQ(gaussian_blur(plain, 7.5F), plain);
  const Image picture = make_picture(20, 10, 4);
  EXPECT_EQ(gaussian_blur(picture, 0), picture);
}

TEST(Resize, KeepsAPlainPicturePlainAtAnySize) {
  for (const Filter filter : {Filter::nearest, Filter::box, Filter::bilinear, Filter::bicubic, Filter::lanczos}) {
    for (const auto& [width, height] : {std::pair{1, 1}, {3, 50}, {200, 7}, {21, 13}}) {
      Image plain(20, 13, 3);
      std::fill(plain.pixels.begin(), plain.pixels.end(), std::uint8_t{201});
      const Image out = resize(plain, width, height, filter);
      EXPECT_EQ(out.width, width);
      EXPECT_TRUE(std::all_of(out.pixels.begin(), out.pixels.end(), [](int v) { return v == 201; }));
    }
  }
}

TEST(Resize, ToItsOwnSizeChangesNothing) {
  const Image picture = make_picture(19, 11, 4);
  EXPECT_EQ(resize(picture, 19, 11), picture);
  EXPECT_EQ(resize_and_crop(picture, 19, 11), picture);
  EXPECT_EQ(resize_and_fill(picture, 19, 11), picture);
}

TEST(Resize, WeighsColoursByTheirAlpha) {
  Image half(2, 1, 4);
  half.pixels = {200, 100, 50, 255, 0, 255, 0, 0};  // the second pixel's green is invisible
  const Image out = resize(half, 1, 1, Filter::box);
  EXPECT_EQ(out.pixels, (std::vector<std::uint8_t>{199, 99, 49, 128}));
}

TEST(Resize, FitsExtremeShapesWithoutLosingThemWhole) {
  for (const auto& [width, height] : {std::pair{64, 1}, {1, 64}, {64, 64}}) {
    const Image sliver = make_picture(1000, 1, 3);
    EXPECT_EQ(resize_and_crop(sliver, width, height).height, height);
    EXPECT_EQ(resize_and_fill(sliver, width, height).width, width);
  }
}

}  // namespace
}  // namespace darkroom::engine
