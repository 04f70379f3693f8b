#include "engine/models/rrdbnet.h"

#include "base/error.h"

namespace darkroom::engine {
namespace {

constexpr std::int64_t kColours = 3;
constexpr float kResidualScale = 0.2F;  // of a block's own part, both of dense blocks and of what they make up

// Squares of `side`² pixels become channels, in torch's order: colour, row, column.
std::vector<float> unshuffled(std::span<const float> picture, int height, int width, int side) {
  std::vector<float> result(picture.size());
  auto* out = result.data();
  for (int y = 0; y < height; y += side) {
    for (int x = 0; x < width; x += side) {
      for (int colour = 0; colour < kColours; ++colour) {
        for (int dy = 0; dy < side; ++dy) {
          for (int dx = 0; dx < side; ++dx) {
            *out++ = picture[static_cast<std::size_t>(((y + dy) * width + x + dx) * kColours + colour)];
          }
        }
      }
    }
  }
  return result;
}

}  // namespace

DenseBlock DenseBlock::load(const Loader& loader, const RrdbnetConfig& config) {
  DenseBlock block{.growth = config.num_grow_ch};
  std::int64_t channels = config.num_feat;
  for (std::size_t i = 0; i < block.convs.size(); ++i) {
    const bool last = i + 1 == block.convs.size();
    block.convs[i] = Conv2d::load(loader / fmt::format("conv{}", i + 1),
                                  {.in = channels, .out = last ? config.num_feat : config.num_grow_ch});
    channels += config.num_grow_ch;
  }
  return block;
}

Tensor DenseBlock::operator()(const Tensor& x) const {
  std::int64_t channels = x.channels();
  const DType type = convs.front().weight->packed().compute;
  const Tensor joined =
      empty(x.backend(),
            {x.dim(0), x.dim(1), x.dim(2), channels + static_cast<std::int64_t>(convs.size() - 1) * growth}, type);
  copy_into(x, joined.slice_channels(0, channels));
  for (std::size_t i = 0; i + 1 < convs.size(); ++i, channels += growth) {
    convs[i].into(joined.slice_channels(0, channels), {.activation = Activation::leaky_relu},
                  joined.slice_channels(channels, growth));
  }
  return convs.back()(joined, {.residual = &x, .scale = kResidualScale, .out = DType::f32});
}

Rrdb Rrdb::load(const Loader& loader, const RrdbnetConfig& config) {
  Rrdb block;
  for (std::size_t i = 0; i < block.rdbs.size(); ++i) {
    block.rdbs[i] = DenseBlock::load(loader / fmt::format("rdb{}", i + 1), config);
  }
  return block;
}

Tensor Rrdb::operator()(const Tensor& x) const {
  Tensor y = x;
  for (const DenseBlock& rdb : rdbs) y = rdb(y);
  add_into(y, kResidualScale, x, 1.0F, y);
  return y;
}

Rrdbnet::Rrdbnet(Network& network, const WeightSource& source, const RrdbnetConfig& config, DType compute)
    : config_(config), network_(network) {
  const Loader root(network, source, compute);
  const std::int64_t width = config.num_feat;
  conv_first_ = Conv2d::load(root / "conv_first", {.in = kColours * config.unshuffle * config.unshuffle, .out = width});
  for (int i = 0; i < config.num_block; ++i) body_.push_back(Rrdb::load(root / "body" / i, config));
  conv_body_ = Conv2d::load(root / "conv_body", {.in = width, .out = width});
  for (int i = 1; i <= config.doublings; ++i) {
    conv_up_.push_back(Upsample2D::load_doubling(root / fmt::format("conv_up{}", i), width));
  }
  conv_hr_ = Conv2d::load(root / "conv_hr", {.in = width, .out = width});
  conv_last_ = Conv2d::load(root / "conv_last", {.in = width, .out = kColours});
}

std::vector<float> Rrdbnet::operator()(std::span<const float> picture, int height, int width) const {
  DR_ASSERT(height % config_.unshuffle == 0 && width % config_.unshuffle == 0);
  const Shape shape{1, height / config_.unshuffle, width / config_.unshuffle,
                    kColours * config_.unshuffle * config_.unshuffle};
  const Tensor x = config_.unshuffle == 1
                       ? from_host(network_.backend(), picture, shape)
                       : from_host(network_.backend(), unshuffled(picture, height, width, config_.unshuffle), shape);
  return to_host(network_.finite("upscaler", [&] { return forward(x); }));
}

Tensor Rrdbnet::forward(Tensor x) const {
  x = conv_first_(x, {.out = DType::f32});
  Tensor h = x;
  for (const Rrdb& block : body_) h = block(h);
  x = conv_body_(h, {.residual = &x});
  h = {};
  for (const Upsample2D& up : conv_up_) x = up(x, 2 * x.dim(1), 2 * x.dim(2), {}, Activation::leaky_relu);
  x = conv_hr_(x, {.activation = Activation::leaky_relu});
  return conv_last_(x, {.out = DType::f32});
}

std::uint64_t Rrdbnet::bytes_per_pixel(const RrdbnetConfig& config, DType compute) {
  const std::uint64_t element = size_of(compute);
  const auto width = static_cast<std::uint64_t>(config.num_feat);
  // Of the body: its input, that of a block, and what a dense block takes and gives, in float32, and the dense block's
  // channels side by side.
  std::uint64_t bytes = 4 * 4 * width + (width + 4 * static_cast<std::uint64_t>(config.num_grow_ch)) * element;
  // Each doubling's result, and that of the last convolution but one; the picture, here and on the host.
  std::uint64_t pixels = 1;
  for (int i = 0; i <= config.doublings; ++i, pixels *= 4) bytes += pixels * width * element;
  pixels /= 4;
  bytes += pixels * (width * element + 2 * 4 * kColours);
  const auto side = static_cast<std::uint64_t>(config.unshuffle);
  return bytes / (side * side);
}

}  // namespace darkroom::engine
