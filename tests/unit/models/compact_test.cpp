// SRVGGNetCompact against its definition, written down plainly: torch's convolutions, PReLU and pixel_shuffle.
#include "engine/models/compact.h"

#include <cmath>

#include <gtest/gtest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ref/ref_backend.h"

namespace darkroom::engine {
namespace {

constexpr int kHeight = 5, kWidth = 7;

// The same for each name: values between −scale and scale.
std::vector<float> some_values(std::size_t count, std::uint32_t seed, float scale) {
  std::vector<float> values(count);
  std::uint32_t state = seed;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = scale * (static_cast<float>(state >> 8U) * (2.0F / 16777216.0F) - 1.0F);
  }
  return values;
}

class CompactNetwork {
 public:
  explicit CompactNetwork(const CompactConfig& config) : config_(config) {
    std::int64_t in = 3;
    for (int i = 0; i <= config.num_conv; ++i, in = config.num_feat) add_layer(2 * i, in, config.num_feat);
    add_layer(2 * static_cast<int>(config.num_conv) + 2, in, std::int64_t{3} * config.upscale * config.upscale);
  }

  ModelPart<UpscalerConfig> part() const {
    std::vector<HostTensor> tensors;
    for (const auto& [name, tensor] : tensors_) {
      tensors.push_back({.name = name,
                         .dtype = DType::f32,
                         .shape = tensor.shape,
                         .data = reinterpret_cast<const std::byte*>(tensor.values.data()),
                         .owner = nullptr});
    }
    return {.config = config_, .weights = value_or_throw(TensorMap::make("made up", std::move(tensors)))};
  }

  // picture [H, W, 3] → [H·s, W·s, 3]
  std::vector<float> run(const std::vector<float>& picture) const {
    std::vector<float> x = picture;
    std::size_t in = 3;
    const int last = 2 * static_cast<int>(config_.num_conv) + 2;
    for (int layer = 0; layer <= last; layer += 2) {
      x = convolved(x, in, layer);
      in = x.size() / (kHeight * kWidth);
      if (layer == last) break;
      const std::vector<float>& slopes = tensors_.at("body." + std::to_string(layer + 1) + ".weight").values;
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = x[i] > 0 ? x[i] : slopes[i % in] * x[i];
    }
    const int s = config_.upscale;
    std::vector<float> result(picture.size() * static_cast<std::size_t>(s * s));
    for (int y = 0; y < kHeight * s; ++y) {
      for (int px = 0; px < kWidth * s; ++px) {
        for (int c = 0; c < 3; ++c) {
          const int from = y / s * kWidth + px / s;
          const int channel = (c * s + y % s) * s + px % s;
          result[static_cast<std::size_t>((y * kWidth * s + px) * 3 + c)] =
              x[static_cast<std::size_t>(from) * in + static_cast<std::size_t>(channel)] +
              picture[static_cast<std::size_t>(from * 3 + c)];
        }
      }
    }
    return result;
  }

 private:
  struct Values {
    Shape shape;
    std::vector<float> values;
  };

  void add(const std::string& name, const Shape& shape, float scale) {
    tensors_[name] = {shape, some_values(static_cast<std::size_t>(shape.elements()),
                                         static_cast<std::uint32_t>(tensors_.size()) + 1, scale)};
  }
  void add_layer(int index, std::int64_t in, std::int64_t out) {
    const std::string body = "body.";
    add(body + std::to_string(index) + ".weight", {out, in, 3, 3}, 1.0F / std::sqrt(9.0F * static_cast<float>(in)));
    add(body + std::to_string(index) + ".bias", {out}, 0.1F);
    if (index < 2 * config_.num_conv + 2) add(body + std::to_string(index + 1) + ".weight", {out}, 0.5F);
  }

  std::vector<float> convolved(const std::vector<float>& x, std::size_t in, int layer) const {
    const std::string name = "body." + std::to_string(layer);
    const std::vector<float>& weight = tensors_.at(name + ".weight").values;
    const std::vector<float>& bias = tensors_.at(name + ".bias").values;
    std::vector<float> result;
    for (int y = 0; y < kHeight; ++y) {
      for (int px = 0; px < kWidth; ++px) {
        for (std::size_t o = 0; o < bias.size(); ++o) {
          float sum = bias[o];
          for (int tap = 0; tap < 9; ++tap) {
            const int iy = y + tap / 3 - 1, ix = px + tap % 3 - 1;
            if (iy < 0 || iy >= kHeight || ix < 0 || ix >= kWidth) continue;
            for (std::size_t i = 0; i < in; ++i) {
              sum += x[static_cast<std::size_t>(iy * kWidth + ix) * in + i] *
                     weight[(o * in + i) * 9 + static_cast<std::size_t>(tap)];
            }
          }
          result.push_back(sum);
        }
      }
    }
    return result;
  }

  CompactConfig config_;
  std::map<std::string, Values> tensors_;
};

TEST(Compact, IsWhatItsDefinitionSays) {
  const std::vector<float> picture = some_values(std::size_t{kHeight} * kWidth * 3, 9, 1.0F);
  for (const CompactConfig config : {CompactConfig{.num_feat = 20, .num_conv = 3, .upscale = 4},
                                     CompactConfig{.num_feat = 9, .num_conv = 1, .upscale = 3},
                                     CompactConfig{.num_feat = 64, .num_conv = 0, .upscale = 1}}) {
    const CompactNetwork definition(config);
    const std::vector<float> want = definition.run(picture);
    for (const bool fast : {false, true}) {
      const auto backend = fast ? make_cpu_backend() : make_ref_backend();
      Network network(*backend);
      const auto model = make_upscaler(network, definition.part(), DType::f32);
      EXPECT_EQ(model->scale(), config.upscale);
      const std::vector<float> got = (*model)(picture, kHeight, kWidth);
      ASSERT_EQ(got.size(), want.size());
      for (std::size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5F) << i;
    }
  }
}

TEST(Upscaler, NonFiniteResultsNameTheLayer) {
  const CompactNetwork definition({.num_feat = 8, .num_conv = 1, .upscale = 2});
  const auto backend = make_cpu_backend();
  Network network(*backend);
  const auto model = make_upscaler(network, definition.part(), DType::f32);
  std::vector<float> picture(std::size_t{kHeight} * kWidth * 3, 0.5F);
  picture[4] = INFINITY;
  try {
    (*model)(picture, kHeight, kWidth);
    FAIL() << "infinity passed";
  } catch (const Failure& failure) {
    EXPECT_NE(failure.error().message.find("body.0"), std::string::npos) << failure.error().message;
  }
}

}  // namespace
}  // namespace darkroom::engine
