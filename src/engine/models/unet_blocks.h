// The blocks that SDXL's UNet and its ControlNets are built of. Names are diffusers', which are the checkpoint's.
// The residual stream x is float32; what layers compute on has the type that they compute in.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/nn/layers.h"
#include "engine/weights/model_config.h"

namespace darkroom::engine {

// Rows of one step's time embedding, already projected for every residual block: [N, Σ C_out] f32.
struct TimeRows {
  Tensor projected;
  Tensor slice(std::int64_t begin, std::int64_t count) const { return projected.slice_channels(begin, count); }
};

// The prompt's keys and values for one cross-attention layer, computed once per generation.
struct PromptKeys {
  Tensor k;  // [N, S, C]
  Tensor v;  // [N, S, C]
};

// Where blocks register what is computed outside of them, once for all steps.
struct UnetTables {
  std::vector<Loader> time_projections;     // each residual block's time_emb_proj
  std::vector<std::int64_t> time_channels;  // and its width
  std::vector<Linear> prompt_projections;   // each cross-attention's to_k and to_v as one
};

// Residual block with timestep injection (Ho et al. 2020, app. B).
//   h = conv1(silu(norm1(x))) + W_t·silu(temb);  h = conv2(silu(norm2(h)));  y = skip(x) + h
struct ResnetBlock {
  GroupNorm norm1;
  Conv2d conv1;
  GroupNorm norm2;
  Conv2d conv2;
  std::optional<Linear> conv_shortcut;
  std::int64_t time_begin = 0;  // this block's columns of the projected time embedding
  std::int64_t channels = 0;

  // tables: null for a block without a timestep (the autoencoder's).
  static ResnetBlock load(const Loader& loader, std::int64_t in, std::int64_t out, int groups, float epsilon,
                          UnetTables* tables);
  // x [N,H,W,C1], skip [N,H,W,C2] joined behind it or null, time null for a block without → [N,H,W,out] in `out`. An x
  // that nobody else holds may become the result.
  Tensor operator()(Tensor x, const Tensor* skip, const TimeRows* time, DType out = DType::f32) const;
};

struct Attention {
  Linear to_q;  // self-attention: to_q, to_k and to_v as one
  Linear to_out;
  int heads = 1;
  int prompt_index = -1;  // which of the prompt's keys and values; −1: self-attention

  static Attention load(const Loader& loader, std::int64_t channels, int heads, std::int64_t context_channels,
                        UnetTables* tables);
  // sum [N,S,C] f32 += attention of x [N,S,C], in place. In the last `perturbed` rows every token attends to itself
  // alone (perturbed-attention guidance); self-attention only.
  void add_into(const Tensor& x, const Tensor& sum, std::span<const PromptKeys> prompt,
                std::int64_t perturbed = 0) const;
};

struct FeedForward {
  Linear proj;  // net.0.proj
  Linear out;   // net.2

  static FeedForward load(const Loader& loader, std::int64_t channels);
  void add_into(const Tensor& x, const Tensor& sum) const;  // sum [N,S,C] f32 += the result, in place
};

struct BasicTransformerBlock {
  LayerNorm norm1;
  Attention attn1;
  LayerNorm norm2;
  Attention attn2;
  LayerNorm norm3;
  FeedForward ff;

  static BasicTransformerBlock load(const Loader& loader, std::int64_t channels, int heads,
                                    std::int64_t context_channels, UnetTables& tables);
  // x [N,S,C] f32 becomes the result, in place.
  void transform(const Tensor& x, std::span<const PromptKeys> prompt, std::int64_t perturbed) const;
};

struct Transformer2D {
  GroupNorm norm;
  Linear proj_in;
  std::vector<BasicTransformerBlock> transformer_blocks;
  Linear proj_out;

  static Transformer2D load(const Loader& loader, std::int64_t channels, int heads, int depth, int groups,
                            std::int64_t context_channels, UnetTables& tables);
  // x [N,H,W,C] f32 becomes the result, in place. perturbed: the last rows whose self-attention sees each token alone.
  void transform(const Tensor& x, std::span<const PromptKeys> prompt, std::int64_t perturbed = 0) const;
};

struct DownBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<Transformer2D> attentions;  // empty, or one a resnet
  std::optional<Conv2d> downsampler;
};

struct MidBlock {
  std::vector<ResnetBlock> resnets;  // one more than attentions
  std::vector<Transformer2D> attentions;

  Tensor operator()(Tensor x, const TimeRows& time, std::span<const PromptKeys> prompt, std::int64_t perturbed) const;
};

// What the contracting half hands to the other one.
struct EncoderStates {
  std::vector<Tensor> skips;  // each [N,h,w,C] f32, in the order in which they are made
  Tensor middle;              // [N,h,w,C] f32
};

// The contracting half, which a ControlNet copies: conv_in's successors and the middle block.
struct Encoder {
  std::vector<DownBlock> down_blocks;
  MidBlock mid_block;

  static Encoder load(const Loader& loader, const UnetConfig& config, UnetTables& tables);
  // x [N,H,W,C0] after conv_in, which is the first skip connection → what the middle block makes [N,h,w,C] f32. Each
  // skip connection [N,h,w,C] f32 goes to `take` as soon as it is made; it is overwritten if take does not keep it.
  // perturbed: the last rows whose self-attention in the middle block is perturbed.
  Tensor operator()(Tensor x, const TimeRows& time, std::span<const PromptKeys> prompt,
                    const std::function<void(const Tensor&)>& take, std::int64_t perturbed = 0) const;
};

// What a generation tells the UNet besides the prompt's states.
struct TimeInputs {
  std::span<const float> timesteps;   // one a step
  const Tensor& pooled;               // [N, P] f32
  std::span<const float> time_ids;    // [N, 5 or 6]
  float guidance_scale = 1.0F;        // for UNets that were distilled to take it as an input
  std::span<const float> added = {};  // [T], on top of every row's embedding; or empty
};

// Appends cos and sin of value·10000^(−i/half): diffusers' get_timestep_embedding as SDXL's networks use it.
void append_sinusoid(float value, std::int64_t channels, std::vector<float>& out);

// time_embedding, add_embedding and every block's time_emb_proj, for all steps of a generation at once.
struct TimeEmbedding {
  Linear linear_1;  // time_embedding
  Linear linear_2;
  Linear add_linear_1;  // add_embedding
  Linear add_linear_2;
  std::optional<Linear> cond_proj;      // of the guidance scale, in distilled (LCM) UNets
  Linear projections;                   // every block's time_emb_proj, side by side
  std::int64_t frequency_channels = 0;  // of the timestep: block_out_channels[0]
  std::int64_t id_channels = 0;         // of each time id: addition_time_embed_dim

  static TimeEmbedding load(const Loader& loader, const UnetConfig& config, const UnetTables& tables);
  // One TimeRows a step, of N rows.
  std::vector<TimeRows> operator()(const TimeInputs& inputs) const;
};

// Keys and values of a prompt's states [N, S, C] for each cross-attention layer, in the order of loading.
std::vector<PromptKeys> prompt_keys(const std::vector<Linear>& projections, const Tensor& context);

}  // namespace darkroom::engine
