#include "engine/models/controlnet.h"

#include "base/error.h"

namespace darkroom::engine {

ConditioningEmbedding ConditioningEmbedding::load(const Loader& loader, const ControlNetConfig& config) {
  const auto& widths = config.conditioning_embedding_out_channels;
  ConditioningEmbedding embedding{
      .conv_in = Conv2d::load(loader / "conv_in", {.in = config.conditioning_channels, .out = widths.front()})};
  // Pairs of convolutions: one that keeps the width, one that widens and halves the picture.
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    const Loader blocks = loader / "blocks";
    const auto first = static_cast<int>(2 * i);
    embedding.blocks.push_back(Conv2d::load(blocks / first, {.in = widths[i], .out = widths[i]}));
    embedding.blocks.push_back(
        Conv2d::load(blocks / (first + 1), {.in = widths[i], .out = widths[i + 1], .stride = 2}));
  }
  embedding.conv_out =
      Conv2d::load(loader / "conv_out", {.in = widths.back(), .out = config.unet.block_out_channels[0]});
  return embedding;
}

Tensor ConditioningEmbedding::operator()(const Tensor& picture) const {
  Tensor x = conv_in(picture, {.activation = Activation::silu});
  for (const Conv2d& block : blocks) x = block(x, {.activation = Activation::silu});
  return conv_out(x, {.out = DType::f32});
}

ControlNet::ControlNet(Network& network, const WeightSource& source, const ControlNetConfig& config, DType compute)
    : config_(config) {
  const Loader root(network, source, compute);
  UnetTables tables;
  conv_in_ = Conv2d::load(root.sensitive() / "conv_in",
                          {.in = config.unet.in_channels, .out = config.unet.block_out_channels[0]});
  conditioning_embedding_ = ConditioningEmbedding::load(root.sensitive() / "controlnet_cond_embedding", config);
  encoder_ = Encoder::load(root, config.unet, tables);
  std::vector<std::int64_t> widths{config.unet.block_out_channels[0]};
  for (const DownBlock& block : encoder_.down_blocks) {
    for (const ResnetBlock& resnet : block.resnets) widths.push_back(resnet.channels);
    if (block.downsampler) widths.push_back(block.resnets.back().channels);
  }
  for (std::size_t i = 0; i < widths.size(); ++i) {
    zero_convs_.push_back(Linear::load(root / "controlnet_down_blocks" / static_cast<int>(i), widths[i], widths[i]));
  }
  mid_zero_conv_ = Linear::load(root / "controlnet_mid_block", widths.back(), widths.back());
  if (config.num_control_type > 0) {
    types_ = ControlTypes::load(root, config.num_control_type, config.unet.block_out_channels[0],
                                config.unet.addition_time_embed_dim);
  }
  time_embedding_ = TimeEmbedding::load(root.sensitive(), config.unet, tables);
  prompt_projections_ = std::move(tables.prompt_projections);
}

std::vector<TimeRows> ControlNet::time_rows(TimeInputs inputs, int type) const {
  std::vector<float> added;
  if (types_) inputs.added = added = types_->time_embedding(type);
  return time_embedding_(inputs);
}

Tensor ControlNet::embed(const Tensor& pictures, int type) const {
  const Tensor embedded = conditioning_embedding_(pictures);
  return types_ ? types_->shifted(embedded, type) : embedded;
}

std::vector<PromptKeys> ControlNet::prompt_keys(const Tensor& context) const {
  return engine::prompt_keys(prompt_projections_, context);
}

Tensor ControlNet::add_to(EncoderStates& unet, std::int64_t first, const ControlPass& pass) const {
  const std::int64_t count = pass.latents.dim(0);
  std::size_t i = 0;
  const auto add = [&](const Tensor& skip) {
    const Tensor sum = i < unet.skips.size() ? unet.skips[i].slice_batch(first, count) : Tensor{};
    if (!sum.defined() || sum.shape() != skip.shape() || zero_convs_.size() != unet.skips.size()) {
      throw_failure(ErrorCode::invalid_argument,
                    "the ControlNet was made for another UNet: it has {} skip connections, number {} of them {}, the "
                    "UNet {} and {}",
                    zero_convs_.size(), i + 1, skip.shape().str(), unet.skips.size(),
                    sum.defined() ? sum.shape().str() : "none");
    }
    zero_convs_[i].add_into(skip, pass.scales[i], sum);
    ++i;
  };
  Tensor middle =
      encoder_(conv_in_(pass.latents, {.residual = &pass.picture, .out = DType::f32}), pass.time, pass.prompt, add);
  mid_zero_conv_.add_into(middle, pass.scales[i], unet.middle.slice_batch(first, count));
  return middle;
}

}  // namespace darkroom::engine
