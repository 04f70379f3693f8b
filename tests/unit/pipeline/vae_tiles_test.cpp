// The autoencoder in bands and at once.
#include "engine/pipeline/vae_tiles.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"
#include "engine/models/vae.h"
#include "engine/sampling/random.h"
#include "engine/weights/checkpoint.h"
#include "spec/generation_spec.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

class VaeBands : public testing::Test {
 protected:
  explicit VaeBands(DType compute = DType::f32) : compute_(compute) {}

  Tensor noise(const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.elements()));
    TorchGenerator(3).randn(values);
    return from_host(*backend_, values, shape);
  }

  DType compute_;
  std::unique_ptr<Backend> backend_ = make_cpu_backend();
  Checkpoint checkpoint_ = value_or_throw(open_checkpoint(test::tiny_model("tiny-base")));
  Network network_{*backend_};
  VaeDecoder decoder_{network_, *checkpoint_.vae->weights, checkpoint_.vae->config, compute_};
  VaeEncoder encoder_{network_, *checkpoint_.vae->weights, checkpoint_.vae->config, compute_};
};

class VaeBandsInBfloat16 : public VaeBands {
 protected:
  VaeBandsInBfloat16() : VaeBands(DType::bf16) {}
};

// The worst difference, in standard deviations of what is wanted.
double worst(const Tensor& got_tensor, const Tensor& want_tensor) {
  const std::vector<float> got = to_host(got_tensor), want = to_host(want_tensor);
  EXPECT_EQ(got_tensor.shape().str(), want_tensor.shape().str());
  const auto count = static_cast<double>(want.size());
  double mean = 0, squares = 0, apart = 0;
  for (const float x : want) mean += x / count;
  for (std::size_t i = 0; i < want.size(); ++i) {
    squares += (want[i] - mean) * (want[i] - mean) / count;
    apart = std::max(apart, static_cast<double>(std::abs(got[i] - want[i])));
  }
  return apart / std::sqrt(squares);
}

// Float32 sums in another order.
constexpr double kRounding = 2e-5;

TEST_F(VaeBands, DecodeWhatTheWholeGives) {
  const Tensor latents = noise({1, 26, 9, 4});
  const Tensor whole = decoder_(latents);
  int bands = 0;
  for (const std::int64_t pixels : {1, 2000, 4000, 1 << 20}) {
    EXPECT_LT(worst(decoder_.in_bands(latents, {.pixels = pixels, .between = [&] { ++bands; }}), whole), kRounding)
        << pixels;
  }
  EXPECT_GT(bands, 100);
}

TEST_F(VaeBands, EncodeWhatTheWholeGives) {
  const Tensor picture = noise({1, 208, 72, 3});
  const Tensor whole = encoder_(picture);
  for (const std::int64_t pixels : {1, 3000, 1 << 20}) {
    EXPECT_LT(worst(encoder_.in_bands(picture, {.pixels = pixels}), whole), kRounding) << pixels;
  }
}

TEST_F(VaeBands, EdgesThatMeetDoSoBetweenBandsToo) {
  const Tensor latents = noise({1, 26, 9, 4});
  const Tensor picture = noise({1, 208, 72, 3});
  for (const Wrap wrap : {Wrap{.x = true}, Wrap{.y = true}, Wrap{.x = true, .y = true}}) {
    network_.wrap = wrap;
    for (const std::int64_t pixels : {1, 4000, 1 << 20}) {
      EXPECT_LT(worst(decoder_.in_bands(latents, {.pixels = pixels}), decoder_(latents)), kRounding) << pixels;
      EXPECT_LT(worst(encoder_.in_bands(picture, {.pixels = pixels}), encoder_(picture)), kRounding) << pixels;
      EXPECT_EQ(network_.wrap.y, wrap.y);
    }
  }
}

TEST_F(VaeBandsInBfloat16, AreAsNearAsItsRoundingLets) {
  const Tensor latents = noise({1, 26, 9, 4});
  EXPECT_LT(worst(decoder_.in_bands(latents, {.pixels = 2000}), decoder_(latents)), 0.1);
  const Tensor picture = noise({1, 208, 72, 3});
  EXPECT_LT(worst(encoder_.in_bands(picture, {.pixels = 2000}), encoder_(picture)), 0.1);
}

TEST_F(VaeBands, EndWhereTheirOwnerSays) {
  const Tensor latents = noise({1, 26, 9, 4});
  network_.wrap = {.y = true};
  int left = 30;
  const auto count_down = [&] {
    if (--left == 0) throw_failure(ErrorCode::cancelled, "enough");
  };
  EXPECT_THROW(decoder_.in_bands(latents, {.pixels = 1, .between = count_down}), Failure);
  EXPECT_TRUE(network_.wrap.y);
}

TEST(VaeTile, IsChosenByMemoryAlone) {
  const std::uint64_t whole = decoder_bytes(128, 128, 0, DType::f32);
  EXPECT_EQ(whole, 2 * decoder_bytes(128, 128, 0, DType::bf16));
  EXPECT_EQ(vae_tile_within(whole, 128, 128, DType::f32), 0);
  for (const std::uint64_t bytes : {whole / 2, whole * 2 / 5}) {
    const int tile = vae_tile_within(bytes, 128, 128, DType::f32);
    EXPECT_GE(tile, kMinVaeTile);
    EXPECT_LE(decoder_bytes(128, 128, tile, DType::f32), bytes);
    EXPECT_GT(decoder_bytes(128, 128, tile + 8, DType::f32), bytes);
  }
  EXPECT_EQ(vae_tile_within(1, 128, 128, DType::f32), kMinVaeTile);
  EXPECT_EQ(vae_tile(64, 64, 64, DType::f32), 0) << "a tile that is the whole";
  EXPECT_EQ(vae_tile(64, 64, 72, DType::f32), 64);
}

}  // namespace
}  // namespace darkroom::engine
