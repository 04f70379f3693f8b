#include "engine/models/unet_blocks.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace darkroom::engine {
namespace {

// sin and cos of 1000·(scale − 1) at frequencies from 1 down to 1/10000: diffusers' get_guidance_scale_embedding.
std::vector<float> guidance_sinusoid(float guidance_scale, std::int64_t channels) {
  const std::int64_t half = channels / 2;
  std::vector<float> embedding(static_cast<std::size_t>(channels));
  for (std::int64_t i = 0; i < half; ++i) {
    const float frequency = std::exp(-std::log(10000.0F) * static_cast<float>(i) / static_cast<float>(half - 1));
    const float angle = 1000.0F * (guidance_scale - 1.0F) * frequency;
    embedding[static_cast<std::size_t>(i)] = std::sin(angle);
    embedding[static_cast<std::size_t>(half + i)] = std::cos(angle);
  }
  return embedding;
}

}  // namespace

void append_sinusoid(float value, std::int64_t channels, std::vector<float>& out) {
  const std::int64_t half = channels / 2;
  const auto angle = [&](std::int64_t i) {
    const float exponent = -std::log(10000.0F) * static_cast<float>(i) / static_cast<float>(half);
    return value * std::exp(exponent);
  };
  for (std::int64_t i = 0; i < half; ++i) out.push_back(std::cos(angle(i)));
  for (std::int64_t i = 0; i < half; ++i) out.push_back(std::sin(angle(i)));
}

ResnetBlock ResnetBlock::load(const Loader& loader, std::int64_t in, std::int64_t out, int groups, float epsilon,
                              UnetTables* tables) {
  ResnetBlock block{
      .norm1 = GroupNorm::load(loader / "norm1", in, groups, epsilon),
      .conv1 = Conv2d::load(loader / "conv1", {.in = in, .out = out}),
      .norm2 = GroupNorm::load(loader / "norm2", out, groups, epsilon),
      .conv2 = Conv2d::load(loader / "conv2", {.in = out, .out = out}),
      .conv_shortcut = in == out ? std::nullopt : std::optional{Linear::load(loader / "conv_shortcut", in, out)},
      .channels = out,
  };
  if (tables != nullptr) {
    for (const std::int64_t width : tables->time_channels) block.time_begin += width;
    tables->time_channels.push_back(out);
    tables->time_projections.push_back(loader.sensitive() / "time_emb_proj");
  }
  return block;
}

Tensor ResnetBlock::operator()(Tensor x, const Tensor* skip, const TimeRows* time, DType out) const {
  const GroupNormCall silu{.skip = skip, .activation = Activation::silu};
  Tensor residual;
  Tensor h;
  if (conv_shortcut) {
    auto [normalised, joined] = norm1.with_input(x, silu);  // [N,H,W,Cin]
    x = {};
    residual = (*conv_shortcut)(joined, {.out = out});  // [N,H,W,Cout]
    h = std::move(normalised);
  } else {
    h = norm1(x, silu);
    residual = std::move(x);
  }
  if (time != nullptr) {
    const Tensor rows = time->slice(time_begin, channels);  // [N,Cout]
    h = conv1(h, {.row_bias = &rows});                      // + [N,1,1,Cout]
  } else {
    h = conv1(h);
  }
  h = norm2(h, {.activation = Activation::silu});
  if (residual.shared() || residual.dtype() != out) return conv2(h, {.residual = &residual, .out = out});
  conv2.into(h, {.residual = &residual}, residual);
  return residual;
}

Attention Attention::load(const Loader& loader, std::int64_t channels, int heads, std::int64_t context_channels,
                          UnetTables* tables) {
  Attention attention{.heads = heads};
  const Loader q = loader / "to_q";
  const Loader k = loader / "to_k";
  const Loader v = loader / "to_v";
  if (tables == nullptr) {
    attention.to_q = Linear::load_joined({q, k, v}, channels, channels, /*has_bias=*/false);
  } else {
    attention.to_q = Linear::load(q, channels, channels, /*has_bias=*/false);
    attention.prompt_index = static_cast<int>(tables->prompt_projections.size());
    tables->prompt_projections.push_back(
        Linear::load_joined({k.sensitive(), v.sensitive()}, context_channels, channels, /*has_bias=*/false));
  }
  attention.to_out = Linear::load(loader / "to_out" / 0, channels, channels);
  return attention;
}

void Attention::add_into(const Tensor& x, const Tensor& sum, std::span<const PromptKeys> prompt,
                         std::int64_t perturbed) const {
  Network& network = *to_out.network;
  const std::int64_t width = sum.channels();
  const Tensor q = to_q(x);
  Tensor h;
  if (prompt_index < 0) {
    h = attend(network, q.slice_channels(0, width), q.slice_channels(width, width), q.slice_channels(2 * width, width),
               heads);
    if (perturbed > 0) {
      const std::int64_t first = q.dim(0) - perturbed;
      copy_into(q.slice_batch(first, perturbed).slice_channels(2 * width, width), h.slice_batch(first, perturbed));
    }
  } else {
    const PromptKeys& keys = prompt[static_cast<std::size_t>(prompt_index)];
    h = attend(network, q, keys.k, keys.v, heads);
  }
  to_out.add_into(h, 1.0F, sum);
}

FeedForward FeedForward::load(const Loader& loader, std::int64_t channels) {
  return {.proj = Linear::load_geglu(loader / "net" / 0 / "proj", channels, 4 * channels),
          .out = Linear::load(loader / "net" / 2, 4 * channels, channels)};
}

void FeedForward::add_into(const Tensor& x, const Tensor& sum) const { out.add_into(proj(x), 1.0F, sum); }

BasicTransformerBlock BasicTransformerBlock::load(const Loader& loader, std::int64_t channels, int heads,
                                                  std::int64_t context_channels, UnetTables& tables) {
  return {.norm1 = LayerNorm::load(loader / "norm1", channels),
          .attn1 = Attention::load(loader / "attn1", channels, heads, channels, nullptr),
          .norm2 = LayerNorm::load(loader / "norm2", channels),
          .attn2 = Attention::load(loader / "attn2", channels, heads, context_channels, &tables),
          .norm3 = LayerNorm::load(loader / "norm3", channels),
          .ff = FeedForward::load(loader / "ff", channels)};
}

void BasicTransformerBlock::transform(const Tensor& x, std::span<const PromptKeys> prompt,
                                      std::int64_t perturbed) const {
  attn1.add_into(norm1(x), x, prompt, perturbed);
  attn2.add_into(norm2(x), x, prompt);
  ff.add_into(norm3(x), x);
}

Transformer2D Transformer2D::load(const Loader& loader, std::int64_t channels, int heads, int depth, int groups,
                                  std::int64_t context_channels, UnetTables& tables) {
  Transformer2D transformer{.norm = GroupNorm::load(loader / "norm", channels, groups, 1e-6F),
                            .proj_in = Linear::load(loader / "proj_in", channels, channels)};
  for (int i = 0; i < depth; ++i) {
    transformer.transformer_blocks.push_back(
        BasicTransformerBlock::load(loader / "transformer_blocks" / i, channels, heads, context_channels, tables));
  }
  transformer.proj_out = Linear::load(loader / "proj_out", channels, channels);
  return transformer;
}

void Transformer2D::transform(const Tensor& x, std::span<const PromptKeys> prompt, std::int64_t perturbed) const {
  Tensor h = proj_in(norm(x), {.out = DType::f32});
  h = h.reshape({x.dim(0), x.dim(1) * x.dim(2), x.channels()});  // [N,H·W,C]
  for (const BasicTransformerBlock& block : transformer_blocks) block.transform(h, prompt, perturbed);
  proj_out.add_into(h.reshape(x.shape()), 1.0F, x);
}

Tensor MidBlock::operator()(Tensor x, const TimeRows& time, std::span<const PromptKeys> prompt,
                            std::int64_t perturbed) const {
  x = resnets[0](std::move(x), nullptr, &time);
  for (std::size_t i = 0; i < attentions.size(); ++i) {
    attentions[i].transform(x, prompt, perturbed);
    x = resnets[i + 1](std::move(x), nullptr, &time);
  }
  return x;
}

Encoder Encoder::load(const Loader& loader, const UnetConfig& config, UnetTables& tables) {
  Encoder encoder;
  const int levels = static_cast<int>(config.block_out_channels.size());
  const auto at = [](const auto& values, int i) { return values[static_cast<std::size_t>(i)]; };
  const auto groups = static_cast<int>(config.norm_num_groups);
  const auto epsilon = static_cast<float>(config.norm_eps);
  const auto transformer = [&](const Loader& place, int level) {
    return Transformer2D::load(
        place, at(config.block_out_channels, level), static_cast<int>(at(config.attention_head_dim, level)),
        static_cast<int>(at(config.transformer_layers_per_block, level)), groups, config.cross_attention_dim, tables);
  };
  std::int64_t channels = config.block_out_channels[0];
  for (int level = 0; level < levels; ++level) {
    const Loader place = loader / "down_blocks" / level;
    const std::int64_t out = at(config.block_out_channels, level);
    DownBlock block;
    for (int i = 0; i < config.layers_per_block; ++i) {
      block.resnets.push_back(ResnetBlock::load(place / "resnets" / i, channels, out, groups, epsilon, &tables));
      channels = out;
      if (at(config.down_block_has_attention, level)) {
        block.attentions.push_back(transformer(place / "attentions" / i, level));
      }
    }
    if (level + 1 < levels) {
      block.downsampler = Conv2d::load(place / "downsamplers" / 0 / "conv", {.in = out, .out = out, .stride = 2});
    }
    encoder.down_blocks.push_back(std::move(block));
  }
  const Loader middle = loader / "mid_block";
  encoder.mid_block.resnets.push_back(
      ResnetBlock::load(middle / "resnets" / 0, channels, channels, groups, epsilon, &tables));
  if (config.mid_block_has_attention) {
    encoder.mid_block.attentions.push_back(transformer(middle / "attentions" / 0, levels - 1));
  }
  encoder.mid_block.resnets.push_back(
      ResnetBlock::load(middle / "resnets" / 1, channels, channels, groups, epsilon, &tables));
  return encoder;
}

Tensor Encoder::operator()(Tensor x, const TimeRows& time, std::span<const PromptKeys> prompt,
                           const std::function<void(const Tensor&)>& take, std::int64_t perturbed) const {
  take(x);
  for (const DownBlock& block : down_blocks) {
    for (std::size_t i = 0; i < block.resnets.size(); ++i) {
      x = block.resnets[i](std::move(x), nullptr, &time);
      if (!block.attentions.empty()) block.attentions[i].transform(x, prompt);
      take(x);
    }
    if (block.downsampler) {
      x = (*block.downsampler)(x, {.out = DType::f32});  // [N,⌈H/2⌉,⌈W/2⌉,C]
      take(x);
    }
  }
  return mid_block(std::move(x), time, prompt, perturbed);
}

TimeEmbedding TimeEmbedding::load(const Loader& loader, const UnetConfig& config, const UnetTables& tables) {
  const std::int64_t frequencies = config.block_out_channels[0];
  const std::int64_t width = 4 * frequencies;
  return {.linear_1 = Linear::load(loader / "time_embedding" / "linear_1", frequencies, width),
          .linear_2 = Linear::load(loader / "time_embedding" / "linear_2", width, width),
          .add_linear_1 =
              Linear::load(loader / "add_embedding" / "linear_1", config.projection_class_embeddings_input_dim, width),
          .add_linear_2 = Linear::load(loader / "add_embedding" / "linear_2", width, width),
          .cond_proj = config.time_cond_proj_dim > 0
                           ? std::optional{Linear::load(loader / "time_embedding" / "cond_proj",
                                                        config.time_cond_proj_dim, frequencies, /*has_bias=*/false)}
                           : std::nullopt,
          .projections = Linear::load_joined(tables.time_projections, width, tables.time_channels),
          .frequency_channels = frequencies,
          .id_channels = config.addition_time_embed_dim};
}

std::vector<TimeRows> TimeEmbedding::operator()(const TimeInputs& inputs) const {
  const auto& [timesteps, pooled, time_ids, guidance_scale, extra] = inputs;
  Backend& backend = linear_1.network->backend();
  const std::int64_t rows = pooled.dim(0);
  const std::size_t ids_per_row = time_ids.size() / static_cast<std::size_t>(rows);
  const std::int64_t given = pooled.channels() + static_cast<std::int64_t>(ids_per_row) * id_channels;
  if (given != add_linear_1.weight->packed().in) {
    throw_failure(ErrorCode::invalid_argument,
                  "the UNet takes {} added conditioning values, but {} pooled and {} time ids of {} give {}",
                  add_linear_1.weight->packed().in, pooled.channels(), ids_per_row, id_channels, given);
  }

  // What the picture is told of its sizes: the same in every step.
  const std::vector<float> pooled_values = to_host(pooled);
  std::vector<float> added;
  for (std::int64_t n = 0; n < rows; ++n) {
    const auto begin = pooled_values.begin() + n * pooled.channels();
    added.insert(added.end(), begin, begin + pooled.channels());
    for (std::size_t i = 0; i < ids_per_row; ++i) {
      append_sinusoid(time_ids[static_cast<std::size_t>(n) * ids_per_row + i], id_channels, added);
    }
  }
  const LinearCall silu_f32{.activation = Activation::silu, .out = DType::f32};
  const LinearCall f32{.out = DType::f32};
  const Tensor added_embedding =
      add_linear_2(add_linear_1(from_host(backend, added, {rows, given}), silu_f32), f32);  // [N,T]

  std::vector<float> sinusoids;
  for (const float timestep : timesteps) append_sinusoid(timestep, frequency_channels, sinusoids);
  const auto steps = static_cast<std::int64_t>(timesteps.size());
  if (cond_proj) {
    const std::vector<float> scale = guidance_sinusoid(guidance_scale, cond_proj->weight->packed().in);
    const std::vector<float> projected =
        to_host((*cond_proj)(from_host(backend, scale, {1, cond_proj->weight->packed().in}), f32));
    for (std::size_t i = 0; i < sinusoids.size(); ++i) sinusoids[i] += projected[i % projected.size()];
  }
  const Tensor time_embedding =
      linear_2(linear_1(from_host(backend, sinusoids, {steps, frequency_channels}), silu_f32), f32);  // [steps,T]

  // emb = time + added for every pair of step and row, then silu and all projections.
  const std::int64_t width = time_embedding.channels();
  const std::vector<float> by_step = to_host(time_embedding);
  std::vector<float> by_row = to_host(added_embedding);
  for (std::size_t i = 0; i < by_row.size() && !extra.empty(); ++i) by_row[i] += extra[i % extra.size()];
  std::vector<float> sums;
  sums.reserve(static_cast<std::size_t>(steps * rows * width));
  for (std::int64_t s = 0; s < steps; ++s) {
    for (std::int64_t n = 0; n < rows; ++n) {
      for (std::int64_t c = 0; c < width; ++c) {
        sums.push_back(by_step[static_cast<std::size_t>(s * width + c)] +
                       by_row[static_cast<std::size_t>(n * width + c)]);
      }
    }
  }
  const Tensor embedding = activate(from_host(backend, sums, {steps * rows, width}), Activation::silu, DType::f32);
  const Tensor projected = projections(embedding, f32);  // [steps·N, Σ C_out]
  std::vector<TimeRows> table;
  for (std::int64_t s = 0; s < steps; ++s) table.push_back({projected.slice_batch(s * rows, rows)});
  return table;
}

std::vector<PromptKeys> prompt_keys(const std::vector<Linear>& projections, const Tensor& context) {
  std::vector<PromptKeys> keys;
  for (const Linear& to_kv : projections) {
    const Tensor kv = to_kv(context);  // [N,S,2C]
    const std::int64_t width = kv.channels() / 2;
    keys.push_back({.k = kv.slice_channels(0, width), .v = kv.slice_channels(width, width)});
  }
  return keys;
}

}  // namespace darkroom::engine
