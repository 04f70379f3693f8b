// Cutting and blending, without networks.
#include "engine/pipeline/tiles.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace darkroom::engine {
namespace {

std::vector<float> some_values(std::size_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8U) * (1.0F / 16777216.0F);
  }
  return values;
}

constexpr TileShape kSmall{.side = 20, .margin = 2, .blend = 2};

TEST(TileAxis, TilesCoverTheLengthAndOverlapEnough) {
  for (const TileShape shape : {kSmall, TileShape{.side = 512, .margin = 16, .blend = 16},
                                TileShape{.side = 16, .margin = 1, .blend = 2}, TileShape{.side = 9, .blend = 3}}) {
    for (int length = 1; length < 6 * shape.side; length += 1 + shape.side / 50) {
      for (const bool wrap : {false, true}) {
        SCOPED_TRACE(testing::Message() << length << " in " << shape.side << (wrap ? ", circular" : ""));
        const TileAxis axis = cut_axis(length, shape, wrap);
        ASSERT_LE(axis.tile, shape.side);
        ASSERT_EQ(axis.starts.front(), 0);
        if (length <= shape.side) {
          ASSERT_EQ(axis.tile, length);
          ASSERT_EQ(axis.starts.size(), 1U);
          continue;
        }
        ASSERT_EQ(axis.circular, wrap);
        for (std::size_t i = 1; i < axis.starts.size(); ++i) {
          ASSERT_GE(axis.starts[i - 1] + axis.tile - axis.starts[i], shape.overlap());
          ASSERT_LE(axis.starts[i - 1], axis.starts[i]);
        }
        const int end = axis.starts.back() + axis.tile;
        ASSERT_EQ(end, wrap ? std::max(end, length + shape.overlap()) : length);
      }
    }
  }
}

// Each pixel repeated in a square of three.
std::vector<float> tripled(std::span<const float> in, int height, int width, int channels) {
  std::vector<float> out;
  for (int y = 0; y < 3 * height; ++y) {
    for (int x = 0; x < 3 * width; ++x) {
      for (int c = 0; c < channels; ++c) {
        out.push_back(in[static_cast<std::size_t>((y / 3 * width + x / 3) * channels + c)]);
      }
    }
  }
  return out;
}

TEST(Tiles, WhatLooksAtSinglePixelsIsTheSameInTiles) {
  for (const Wrap wrap : {Wrap{}, Wrap{.x = true}, Wrap{.y = true}, Wrap{.x = true, .y = true}}) {
    for (const auto& [height, width] : {std::pair(7, 5), {20, 21}, {61, 44}, {33, 100}}) {
      const std::vector<float> input = some_values(static_cast<std::size_t>(height * width * 2));
      const TiledPicture picture{.input = input,
                                 .height = height,
                                 .width = width,
                                 .input_channels = 2,
                                 .output_cell = 3,
                                 .output_channels = 2,
                                 .wrap = wrap};
      const CancelToken never;
      const std::vector<float> got = in_tiles(
          picture, kSmall, [](const Tile& tile) { return tripled(tile.input, tile.height, tile.width, 2); }, nullptr,
          never);
      const std::vector<float> want = tripled(input, height, width, 2);
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6F) << i;
    }
  }
}

// The mean of 5×5 pixels, zeros around the picture or its other edges.
std::vector<float> blurred(std::span<const float> in, int height, int width, Wrap wrap) {
  std::vector<float> out;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      float sum = 0;
      for (int dy = -2; dy <= 2; ++dy) {
        for (int dx = -2; dx <= 2; ++dx) {
          const int py = wrap.y ? (y + dy + height) % height : y + dy;
          const int px = wrap.x ? (x + dx + width) % width : x + dx;
          if (py >= 0 && py < height && px >= 0 && px < width) sum += in[static_cast<std::size_t>(py * width + px)];
        }
      }
      out.push_back(sum / 25);
    }
  }
  return out;
}

TEST(Tiles, WhatReachesNoFurtherThanTheMarginIsTheSameInTilesAndOverTheEdges) {
  for (const Wrap wrap : {Wrap{}, Wrap{.x = true}, Wrap{.y = true}, Wrap{.x = true, .y = true}}) {
    for (const auto& [height, width] : {std::pair(9, 50), {50, 9}, {48, 37}}) {
      const std::vector<float> input = some_values(static_cast<std::size_t>(height * width));
      const TiledPicture picture{
          .input = input, .height = height, .width = width, .input_channels = 1, .output_channels = 1, .wrap = wrap};
      const CancelToken never;
      const std::vector<float> got = in_tiles(
          picture, kSmall, [](const Tile& tile) { return blurred(tile.input, tile.height, tile.width, tile.wrap); },
          nullptr, never);
      const std::vector<float> want = blurred(input, height, width, wrap);
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6F) << i;
    }
  }
}

TEST(Tiles, NeighboursGoOverIntoOneAnotherWithoutAStep) {
  // Tiles that disagree by 1.
  const std::vector<float> input(50, 0.0F);
  const TiledPicture picture{
      .input = input, .height = 1, .width = 50, .input_channels = 1, .output_cell = 4, .output_channels = 1};
  const TileShape shape{.side = 30, .margin = 1, .blend = 6};
  const CancelToken never;
  float level = -1.0F;
  const std::vector<float> got = in_tiles(
      picture, shape,
      [&](const Tile& tile) {
        level += 1.0F;
        return std::vector<float>(static_cast<std::size_t>(16 * tile.height * tile.width), level);
      },
      nullptr, never);
  ASSERT_EQ(level, 1.0F);  // two of them
  EXPECT_EQ(got.front(), 0.0F);
  EXPECT_EQ(got[199], 1.0F);
  for (std::size_t i = 1; i < 200; ++i) {
    EXPECT_GE(got[i], got[i - 1]);
    EXPECT_LE(got[i] - got[i - 1], 1.001F / 24) << i;
  }
}

TEST(Tiles, TellOfEachAndEndWhenCancelled) {
  const std::vector<float> input(50 * 50, 0.0F);
  const TiledPicture picture{.input = input, .height = 50, .width = 50, .input_channels = 1, .output_channels = 1};
  const TilePass pass = [](const Tile& tile) { return tile.input; };
  CancelToken cancel;
  std::vector<int> done;
  const auto sink = [&](const TileProgress& progress) {
    EXPECT_EQ(progress.of, 16);
    done.push_back(progress.done);
    if (progress.done == 5) cancel.cancel(ErrorCode::cancelled);
  };
  try {
    in_tiles(picture, kSmall, pass, sink, cancel);
    FAIL() << "was not cancelled";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::cancelled);
  }
  EXPECT_EQ(done, (std::vector{1, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace darkroom::engine
