#include "engine/models/vae.h"

namespace darkroom::engine {
namespace {

constexpr float kEpsilon = 1e-6F;  // of every norm in the autoencoder

ResnetBlock load_resnet(const Loader& loader, std::int64_t in, std::int64_t out, const VaeConfig& config) {
  return ResnetBlock::load(loader, in, out, static_cast<int>(config.norm_num_groups), kEpsilon, nullptr);
}

Conv2dShape pointwise(std::int64_t in, std::int64_t out) { return {.in = in, .out = out, .kernel = 1, .padding = {}}; }

}  // namespace

VaeAttention VaeAttention::load(const Loader& loader, std::int64_t channels, int groups) {
  return {.group_norm = GroupNorm::load(loader / "group_norm", channels, groups, kEpsilon),
          .to_qkv = Linear::load_joined({loader / "to_q", loader / "to_k", loader / "to_v"}, channels, channels),
          .to_out = Linear::load(loader / "to_out" / 0, channels, channels)};
}

Tensor VaeAttention::operator()(const Tensor& x) const {
  const std::int64_t width = x.channels();
  const std::int64_t pixels = x.dim(1) * x.dim(2);
  const Tensor qkv = to_qkv(group_norm(x)).reshape({x.dim(0), pixels, 3 * width});
  const Tensor h = attend(*to_out.network, qkv.slice_channels(0, width), qkv.slice_channels(width, width),
                          qkv.slice_channels(2 * width, width), 1);
  return to_out(h.reshape(x.shape()), {.residual = &x, .out = x.dtype()});
}

VaeMidBlock VaeMidBlock::load(const Loader& loader, std::int64_t channels, const VaeConfig& config) {
  return {.resnet_0 = load_resnet(loader / "resnets" / 0, channels, channels, config),
          .attention = config.mid_block_add_attention
                           ? std::optional{VaeAttention::load(loader / "attentions" / 0, channels,
                                                              static_cast<int>(config.norm_num_groups))}
                           : std::nullopt,
          .resnet_1 = load_resnet(loader / "resnets" / 1, channels, channels, config)};
}

Tensor VaeMidBlock::operator()(Tensor x) const {
  const DType stream = x.dtype();
  x = resnet_0(std::move(x), nullptr, nullptr, stream);
  if (attention) x = (*attention)(x);
  return resnet_1(std::move(x), nullptr, nullptr, stream);
}

VaeDecoder::VaeDecoder(Network& network, const WeightSource& source, const VaeConfig& config, DType compute)
    : stream_(network.backend().activation_type(compute)) {
  const Loader root(network, source, compute);
  const Loader decoder = root / "decoder";
  const auto& widths = config.block_out_channels;
  if (config.use_post_quant_conv) {
    post_quant_conv_ =
        Conv2d::load(root / "post_quant_conv", pointwise(config.latent_channels, config.latent_channels));
  }
  std::int64_t channels = widths.back();
  conv_in_ = Conv2d::load(decoder / "conv_in", {.in = config.latent_channels, .out = channels});
  mid_block_ = VaeMidBlock::load(decoder / "mid_block", channels, config);
  int index = 0;
  for (auto width = widths.rbegin(); width != widths.rend(); ++width) {
    const std::int64_t out = *width;
    const Loader place = decoder / "up_blocks" / index;
    Level level;
    for (int i = 0; i <= config.layers_per_block; ++i) {
      level.resnets.push_back(load_resnet(place / "resnets" / i, channels, out, config));
      channels = out;
    }
    if (++index < static_cast<int>(widths.size())) {
      level.upsampler = Upsample2D::load(place / "upsamplers" / 0, out, /*any_size=*/false);
    }
    up_blocks_.push_back(std::move(level));
  }
  conv_norm_out_ =
      GroupNorm::load(decoder / "conv_norm_out", channels, static_cast<int>(config.norm_num_groups), kEpsilon);
  conv_out_ = Conv2d::load(decoder / "conv_out", {.in = channels, .out = config.out_channels});
}

Tensor VaeDecoder::begin(const Tensor& latents) const {
  const Tensor x = post_quant_conv_ ? (*post_quant_conv_)(latents) : latents;
  return mid_block_(conv_in_(x, {.out = stream_}));
}

Tensor VaeDecoder::operator()(const Tensor& latents) const {
  Tensor x = begin(latents);
  for (const Level& level : up_blocks_) {
    for (const ResnetBlock& resnet : level.resnets) x = resnet(std::move(x), nullptr, nullptr, stream_);
    if (level.upsampler) x = (*level.upsampler)(x, 2 * x.dim(1), 2 * x.dim(2), stream_);
  }
  x = conv_norm_out_(x, {.activation = Activation::silu});
  return conv_out_(x, {.out = DType::f32});
}

Tensor VaeDecoder::in_bands(const Tensor& latents, const Banding& banding) const {
  Tensor x = begin(latents);
  const Bands bands(*conv_in_.network, banding);
  const Upsample2D* upsampler = nullptr;  // of the level before, made again for each pass over its rows
  for (const Level& level : up_blocks_) {
    for (const ResnetBlock& resnet : level.resnets) {
      const Rows rows = upsampler != nullptr ? bands.upsampled(*upsampler, std::move(x), stream_) : held(std::move(x));
      x = bands.resnet(resnet, rows, stream_);
      upsampler = nullptr;
    }
    if (level.upsampler) upsampler = &*level.upsampler;
  }
  return bands.norm_and_convolve(conv_norm_out_, conv_out_, held(std::move(x)));
}

VaeEncoder::VaeEncoder(Network& network, const WeightSource& source, const VaeConfig& config, DType compute)
    : stream_(network.backend().activation_type(compute)) {
  const Loader root(network, source, compute);
  const Loader encoder = root / "encoder";
  const auto& widths = config.block_out_channels;
  std::int64_t channels = widths.front();
  conv_in_ = Conv2d::load(encoder / "conv_in", {.in = config.in_channels, .out = channels});
  int index = 0;
  for (const std::int64_t out : widths) {
    const Loader place = encoder / "down_blocks" / index;
    Level level;
    for (int i = 0; i < config.layers_per_block; ++i) {
      level.resnets.push_back(load_resnet(place / "resnets" / i, channels, out, config));
      channels = out;
    }
    if (++index < static_cast<int>(widths.size())) {
      // Padded on the right and at the bottom only.
      level.downsampler = Conv2d::load(place / "downsamplers" / 0 / "conv",
                                       {.in = out, .out = out, .stride = 2, .padding = {0, 0, 1, 1}});
    }
    down_blocks_.push_back(std::move(level));
  }
  mid_block_ = VaeMidBlock::load(encoder / "mid_block", channels, config);
  conv_norm_out_ =
      GroupNorm::load(encoder / "conv_norm_out", channels, static_cast<int>(config.norm_num_groups), kEpsilon);
  const std::int64_t moments = 2 * config.latent_channels;
  conv_out_ = Conv2d::load(encoder / "conv_out", {.in = channels, .out = moments});
  if (config.use_quant_conv) quant_conv_ = Conv2d::load(root / "quant_conv", pointwise(moments, moments));
}

Tensor VaeEncoder::operator()(const Tensor& picture) const {
  Tensor x = conv_in_(picture, {.out = stream_});
  for (const Level& level : down_blocks_) {
    for (const ResnetBlock& resnet : level.resnets) x = resnet(std::move(x), nullptr, nullptr, stream_);
    if (level.downsampler) x = (*level.downsampler)(x, {.out = stream_});
  }
  return end(std::move(x));
}

Tensor VaeEncoder::in_bands(const Tensor& picture, const Banding& banding) const {
  Tensor x = picture;
  {
    const Bands bands(*conv_in_.network, banding);
    bool first = true;
    for (const Level& level : down_blocks_) {
      for (const ResnetBlock& resnet : level.resnets) {
        const Rows rows = first ? bands.convolved(conv_in_, std::move(x), stream_) : held(std::move(x));
        x = bands.resnet(resnet, rows, stream_);
        first = false;
      }
      if (level.downsampler) x = bands.collect(bands.downsampled(*level.downsampler, std::move(x), stream_));
    }
  }
  return end(std::move(x));
}

Tensor VaeEncoder::end(Tensor x) const {
  x = mid_block_(std::move(x));
  x = conv_norm_out_(x, {.activation = Activation::silu});
  x = conv_out_(x, {.out = DType::f32});
  return quant_conv_ ? (*quant_conv_)(x, {.out = DType::f32}) : x;
}

}  // namespace darkroom::engine
