// The tiny model's autoencoder in tiles and at once.
#include "engine/pipeline/vae_tiles.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"
#include "engine/sampling/random.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

class VaeTiles : public testing::Test {
 protected:
  std::vector<float> decode(std::span<const float> latents, const LatentShape& shape, int tile) {
    return decode_tiled(vae_, latents, shape, tile, never_);
  }

  static std::vector<float> noise(std::size_t count) {
    std::vector<float> values(count);
    TorchGenerator(3).randn(values);
    return values;
  }

  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  Checkpoint checkpoint_ = value_or_throw(open_checkpoint(test::tiny_model("tiny-base")));
  Autoencoder vae_{*backend_, *checkpoint_.vae, DType::f32};
  const CancelToken never_;
};

struct Distance {
  double worst = 0;  // both in standard deviations of what is wanted
  double mean = 0;   // root of the mean square
};

Distance distance(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  const auto count = static_cast<double>(want.size());
  double mean = 0, squares = 0, errors = 0, worst = 0;
  for (const float x : want) mean += x / count;
  for (std::size_t i = 0; i < want.size(); ++i) {
    squares += (want[i] - mean) * (want[i] - mean) / count;
    errors += (got[i] - want[i]) * (got[i] - want[i]) / count;
    worst = std::max(worst, static_cast<double>(std::abs(got[i] - want[i])));
  }
  return {.worst = worst / std::sqrt(squares), .mean = std::sqrt(errors / squares)};
}

TEST_F(VaeTiles, OneTileIsTheWhole) {
  const LatentShape shape{.height = 12, .width = 20};
  const std::vector<float> latents = noise(shape.each());
  const Tensor z = from_host(*backend_, latents, {1, shape.height, shape.width, 4});
  const std::vector<float> want = to_host(vae_.decoder(z));
  EXPECT_EQ(decode(latents, shape, 0), want);
  EXPECT_EQ(decode(latents, shape, 20), want);
}

// A tile's own mean and deviation, and attention to itself alone: measured, with random weights and latents that are
// noise, 0.2 of a standard deviation for tiles of 24, and less the more of the picture a tile is.
TEST_F(VaeTiles, DecodedTilesAreNearTheWholeAndLargerOnesNearer) {
  const LatentShape shape{.height = 10, .width = 56};
  const std::vector<float> latents = noise(shape.each());
  const std::vector<float> whole = decode(latents, shape, 0);
  const Distance small = distance(decode(latents, shape, 24), whole);
  const Distance large = distance(decode(latents, shape, 40), whole);
  EXPECT_LT(small.mean, 0.3);
  EXPECT_LT(large.mean, 0.2);
  EXPECT_LT(large.mean, small.mean);
  EXPECT_GT(large.mean, 0);
}

TEST_F(VaeTiles, EncodedTilesAreNearTheWhole) {
  const LatentShape shape{.height = 10, .width = 40};
  const std::vector<float> picture = noise(shape.each() / 4 * 64 * 3);
  const std::vector<float> whole = encode_tiled(vae_, picture, shape, 0, never_);
  EXPECT_EQ(whole.size(), 2 * shape.each());
  const Distance apart = distance(encode_tiled(vae_, picture, shape, 24, never_), whole);
  EXPECT_LT(apart.mean, 0.15);
  EXPECT_GT(apart.mean, 0);
}

// Columns [from, width) and then [0, from).
std::vector<float> rolled(const std::vector<float>& in, int width, int channels, int from) {
  std::vector<float> out = in;
  const auto row = static_cast<std::ptrdiff_t>(width) * channels;
  for (auto begin = out.begin(); begin != out.end(); begin += row) {
    std::rotate(begin, begin + static_cast<std::ptrdiff_t>(from) * channels, begin + row);
  }
  return out;
}

TEST_F(VaeTiles, EdgesThatMeetAreWorkedOnAsAnyOtherPlace) {
  // Three tiles around, each of which begins where the next one did.
  const LatentShape shape{.height = 10, .width = 48};
  ASSERT_EQ(cut_axis(48, {.side = 24, .margin = 1, .blend = 3}, true).starts, (std::vector{0, 16, 32}));
  const std::vector<float> latents = noise(shape.each());
  vae_.network.wrap = {.x = true};
  const std::vector<float> picture = decode(latents, shape, 24);
  EXPECT_TRUE(vae_.network.wrap.x);
  const std::vector<float> shifted = decode(rolled(latents, 48, 4, 16), shape, 24);
  EXPECT_LT(distance(shifted, rolled(picture, 48 * 8, 3, 16 * 8)).worst, 1e-5);
}

TEST_F(VaeTiles, ATileIsChosenByMemoryAlone) {
  const std::uint64_t whole = decoder_bytes(128, 128, DType::f32);
  EXPECT_EQ(whole, 2 * decoder_bytes(128, 128, DType::bf16));
  EXPECT_EQ(vae_tile_within(whole, 128, 128, DType::f32), 0);
  for (const std::uint64_t bytes : {whole - 1, whole / 2, whole / 3, whole / 20}) {
    const int tile = vae_tile_within(bytes, 128, 128, DType::f32);
    EXPECT_GE(tile, kMinVaeTile);
    EXPECT_LE(decoder_bytes(tile, tile, DType::f32), bytes);
    EXPECT_GT(decoder_bytes(tile + 8, tile + 8, DType::f32), bytes);
  }
  EXPECT_EQ(vae_tile_within(1, 128, 128, DType::f32), kMinVaeTile);
}

TEST_F(VaeTiles, EndWhenCancelled) {
  const LatentShape shape{.height = 16, .width = 40};
  CancelToken cancelled;
  cancelled.cancel(ErrorCode::timed_out);
  EXPECT_THROW(decode_tiled(vae_, noise(shape.each()), shape, 16, cancelled), Failure);
}

}  // namespace
}  // namespace darkroom::engine
