#include "engine/models/unet.h"

#include "base/error.h"

namespace darkroom::engine {

Unet::Unet(Network& network, const WeightSource& source, const UnetConfig& config, DType compute) : config_(config) {
  const Loader root(network, source, compute);
  const auto& channels = config.block_out_channels;
  const auto levels = static_cast<int>(channels.size());
  const auto groups = static_cast<int>(config.norm_num_groups);
  const auto epsilon = static_cast<float>(config.norm_eps);
  UnetTables tables;

  conv_in_ = Conv2d::load(root.sensitive() / "conv_in", {.in = config.in_channels, .out = channels[0]});
  encoder_ = Encoder::load(root, config, tables);

  // The widths of the skip connections, last made first used.
  std::vector<std::int64_t> skips{channels[0]};
  for (int level = 0; level < levels; ++level) {
    const auto width = channels[static_cast<std::size_t>(level)];
    skips.insert(skips.end(), static_cast<std::size_t>(config.layers_per_block + (level + 1 < levels ? 1 : 0)), width);
  }
  std::int64_t in = channels.back();
  for (int i = 0; i < levels; ++i) {
    const auto level = static_cast<std::size_t>(levels - 1 - i);
    const std::int64_t out = channels[level];
    const Loader place = root / "up_blocks" / i;
    UpBlock block;
    for (int j = 0; j <= config.layers_per_block; ++j) {
      block.resnets.push_back(
          ResnetBlock::load(place / "resnets" / j, in + skips.back(), out, groups, epsilon, &tables));
      skips.pop_back();
      in = out;
      if (config.down_block_has_attention[level]) {
        block.attentions.push_back(Transformer2D::load(
            place / "attentions" / j, out, static_cast<int>(config.attention_head_dim[level]),
            static_cast<int>(config.transformer_layers_per_block[level]), groups, config.cross_attention_dim, tables));
      }
    }
    if (level > 0) block.upsampler = Upsample2D::load(place / "upsamplers" / 0, out, /*any_size=*/true);
    up_blocks_.push_back(std::move(block));
  }
  conv_norm_out_ = GroupNorm::load(root / "conv_norm_out", channels[0], groups, epsilon);
  conv_out_ = Conv2d::load(root.sensitive() / "conv_out", {.in = channels[0], .out = config.out_channels});
  time_embedding_ = TimeEmbedding::load(root.sensitive(), config, tables);
  prompt_projections_ = std::move(tables.prompt_projections);
}

std::vector<PromptKeys> Unet::prompt_keys(const Tensor& context) const {
  if (context.channels() != config_.cross_attention_dim) {
    throw_failure(ErrorCode::invalid_argument, "the UNet attends to {} channels, the text encoders give {}",
                  config_.cross_attention_dim, context.channels());
  }
  return engine::prompt_keys(prompt_projections_, context);
}

Tensor Unet::operator()(const Tensor& latents, const TimeRows& time, std::span<const PromptKeys> prompt,
                        const UnetCall& call) const {
  EncoderStates states;
  states.middle = encoder_(
      conv_in_(latents, {.out = DType::f32}), time, prompt, [&](const Tensor& skip) { states.skips.push_back(skip); },
      call.perturbed);
  if (call.control) call.control(states);
  auto& [skips, x] = states;
  for (std::size_t level = 0; level < up_blocks_.size(); ++level) {
    const UpBlock& block = up_blocks_[level];
    for (std::size_t i = 0; i < block.resnets.size(); ++i) {
      Tensor skip = std::move(skips.back());
      skips.pop_back();
      if (call.freeu != nullptr) apply_freeu(*call.freeu, level, x, skip);
      x = block.resnets[i](std::move(x), &skip, &time);
      if (!block.attentions.empty()) block.attentions[i].transform(x, prompt);
    }
    if (block.upsampler) x = (*block.upsampler)(x, skips.back().dim(1), skips.back().dim(2), DType::f32);
  }
  x = conv_norm_out_(x, {.activation = Activation::silu});
  return conv_out_(x, {.out = DType::f32});  // [N,H,W,4]
}

}  // namespace darkroom::engine
