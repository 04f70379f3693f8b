#include "engine/image/preprocess.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/image/compare.h"
#include "pictures.h"

namespace darkroom::engine {
namespace {

using testing::HasSubstr;

std::string refusal(const Image& image, std::string_view name, std::vector<float> arguments) {
  const auto out = preprocess(image, name, arguments);
  if (out) return "";
  EXPECT_EQ(out.error().code, ErrorCode::invalid_argument);
  return out.error().message;
}

// White with a black square in the middle.
Image square(int side) {
  Image image(side, side, 3);
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const bool inside = x >= side / 4 && x < side * 3 / 4 && y >= side / 4 && y < side * 3 / 4;
      std::fill_n(image.row(y) + 3 * x, 3, static_cast<std::uint8_t>(inside ? 0 : 255));
    }
  }
  return image;
}

TEST(Preprocess, KeepsSizeAndGivesRgbWhateverItIsCalled) {
  for (const Preprocessor& preprocessor : preprocessors()) {
    for (const int channels : {1, 3, 4}) {
      for (const auto& [width, height] : {std::pair{40, 25}, {1, 1}, {1, 30}, {2, 3}}) {
        const auto out = preprocess(make_picture(width, height, channels), preprocessor.name, {});
        ASSERT_TRUE(out) << preprocessor.name << ": " << out.error().message;
        EXPECT_EQ(out->width, width);
        EXPECT_EQ(out->height, height);
        EXPECT_EQ(out->channels, 3);
      }
    }
  }
}

TEST(Preprocess, ListsTheKnownNamesForAnUnknownOne) {
  EXPECT_THAT(refusal(square(8), "depth", {}),
              HasSubstr("\"depth\"; there are canny, scribble, lineart, invert, blur, tile"));
}

TEST(Preprocess, NamesTheArgumentItsValueAndItsLimits) {
  EXPECT_THAT(refusal(square(8), "canny", {-1, 200}), HasSubstr("canny: low is -1; it goes from 0 to 2040"));
  EXPECT_THAT(refusal(square(8), "blur", {65}), HasSubstr("blur: sigma is 65; it goes from 0.01 to 64"));
  EXPECT_THAT(refusal(square(8), "tile", {std::numeric_limits<float>::quiet_NaN()}), HasSubstr("tile: rate is nan"));
  EXPECT_THAT(refusal(square(8), "canny", {150, 100}), HasSubstr("low, 150, is above high, 100"));
  EXPECT_THAT(refusal(square(8), "invert", {1}), HasSubstr("1 arguments were given; it takes at most 0"));
  EXPECT_THAT(refusal(Image(), "canny", {}), HasSubstr("0×0 pixels"));
}

TEST(Preprocess, FillsInArgumentsThatWereLeftOut) {
  const Image picture = make_picture(64, 48, 3);
  const auto with = [&](std::vector<float> arguments) { return preprocess(picture, "canny", arguments).value(); };
  EXPECT_EQ(with({}), with({100, 200}));
  EXPECT_EQ(with({50}), with({50, 200}));
}

TEST(Preprocess, InvertsEveryChannel) {
  const Image picture = make_picture(9, 7, 3);
  const Image inverted = preprocess(picture, "invert", {}).value();
  EXPECT_EQ(inverted.pixels[5], 255 - picture.pixels[5]);
  EXPECT_EQ(preprocess(inverted, "invert", {}).value(), picture);
}

TEST(Preprocess, DrawsLinesWhiteOnBlackWhereAShapeEnds) {
  const int side = 64;
  for (const std::string name : {"scribble", "lineart", "canny"}) {
    const Image lines = preprocess(square(side), name, {}).value();
    int brightest_near_edge = 0;
    for (int x = side / 4 - 2; x <= side / 4 + 2; ++x) {
      brightest_near_edge = std::max<int>(brightest_near_edge, lines.row(side / 2)[3 * x]);
    }
    EXPECT_GT(brightest_near_edge, 100) << name;
    EXPECT_EQ(lines.row(2)[3 * 2], 0) << name;  // far outside
  }
}

TEST(Preprocess, LeavesAPlainPicturePlain) {
  Image plain(32, 32, 3);
  std::fill(plain.pixels.begin(), plain.pixels.end(), std::uint8_t{93});
  EXPECT_EQ(preprocess(plain, "blur", {}).value(), plain);
  EXPECT_EQ(preprocess(plain, "tile", {}).value(), plain);
  for (const std::string name : {"scribble", "lineart", "canny"}) {
    EXPECT_EQ(preprocess(plain, name, {}).value(), Image(32, 32, 3)) << name;
  }
}

TEST(Preprocess, TileOfRateOneChangesNothing) {
  const Image picture = make_picture(20, 15, 3);
  EXPECT_EQ(preprocess(picture, "tile", std::vector<float>{1}).value(), picture);
}

TEST(Canny, SaysTheSameOfGrayAndOfGrayRepeated) {
  const Image gray = make_picture(70, 50, 1);
  EXPECT_EQ(canny(gray, 60, 140), canny(to_rgb(gray), 60, 140));
}

}  // namespace
}  // namespace darkroom::engine
