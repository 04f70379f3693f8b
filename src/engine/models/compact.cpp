#include "engine/models/compact.h"

namespace darkroom::engine {
namespace {

constexpr std::int64_t kColours = 3;

}  // namespace

Compact::Compact(Network& network, const WeightSource& source, const CompactConfig& config, DType compute)
    : config_(config), network_(network) {
  const Loader body = Loader(network, source, compute) / "body";
  const int layers = static_cast<int>(config.num_conv) + 1;  // with slopes
  std::int64_t channels = kColours;
  for (int i = 0; i < layers; ++i) {
    const Loader slopes = body / (2 * i + 1);
    body_.push_back({.conv = Conv2d::load(body / (2 * i), {.in = channels, .out = config.num_feat}),
                     .slopes = slopes.vector({{slopes.full_name("weight"), {config.num_feat}}})});
    channels = config.num_feat;
  }
  body_.push_back(
      {.conv = Conv2d::load(body / (2 * layers), {.in = channels, .out = kColours * config.upscale * config.upscale}),
       .slopes = nullptr});
}

std::vector<float> Compact::operator()(std::span<const float> picture, int height, int width) const {
  const Tensor input = from_host(network_.backend(), picture, {1, height, width, kColours});
  const std::vector<float> shuffled = to_host(network_.finite("upscaler", [&] {
    Tensor x = input;
    for (const Layer& layer : body_) {
      x = layer.slopes ? layer.conv(x, {.activation = Activation::leaky_relu, .slopes = &layer.slopes->values()})
                       : layer.conv(x, {.out = DType::f32});
    }
    return x;
  }));

  // Channels become squares of pixels, in torch's order: colour, row, column; to each the pixel that it came from.
  const int side = config_.upscale;
  std::vector<float> result(shuffled.size());
  const float* in = shuffled.data();
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int colour = 0; colour < kColours; ++colour) {
        const float base = picture[static_cast<std::size_t>((y * width + x) * kColours + colour)];
        for (int dy = 0; dy < side; ++dy) {
          for (int dx = 0; dx < side; ++dx) {
            const std::int64_t row = std::int64_t{y} * side + dy;
            const std::int64_t column = std::int64_t{x} * side + dx;
            result[static_cast<std::size_t>((row * width * side + column) * kColours + colour)] = *in++ + base;
          }
        }
      }
    }
  }
  return result;
}

std::uint64_t Compact::bytes_per_pixel(const CompactConfig& config, DType compute) {
  const auto side = static_cast<std::uint64_t>(config.upscale);
  // What a layer takes and gives; the last one's result, as it is, on the host, and in its order there.
  return 2 * static_cast<std::uint64_t>(config.num_feat) * size_of(compute) + 3 * 4 * kColours * side * side;
}

}  // namespace darkroom::engine
