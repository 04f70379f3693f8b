// The CLIP text encoder (Radford et al. 2021), as transformers' CLIPTextModel and CLIPTextModelWithProjection: SDXL
// uses two of them, and of each the hidden states before the last layer.
#pragma once

#include <span>
#include <vector>

#include "engine/nn/layers.h"
#include "engine/weights/model_config.h"

namespace darkroom::engine {

struct ClipAttention {
  Linear qkv_proj;  // q_proj, k_proj and v_proj as one
  Linear out_proj;
  int heads = 1;

  static ClipAttention load(const Loader& loader, const ClipTextConfig& config);
  Tensor operator()(const Tensor& x, const Tensor& residual) const;  // [N,77,C], causal
};

struct ClipMlp {
  Linear fc1;
  Linear fc2;
  Activation activation = Activation::gelu;

  static ClipMlp load(const Loader& loader, const ClipTextConfig& config);
  Tensor operator()(const Tensor& x, const Tensor& residual) const;
};

struct ClipEncoderLayer {
  LayerNorm layer_norm1;
  ClipAttention self_attn;
  LayerNorm layer_norm2;
  ClipMlp mlp;

  static ClipEncoderLayer load(const Loader& loader, const ClipTextConfig& config);
  Tensor operator()(const Tensor& x) const;  // [N,77,C] f32 → the same
};

struct ClipTextOutput {
  Tensor hidden_states;  // [N, 77, C] f32, after the layer asked for, without the final norm
  Tensor pooled;         // [N, projection_dim] f32; defined where the encoder has a projection
};

// Rows that stand in for token ids from first_id on: textual inversion.
struct ExtraTokens {
  int first_id = 0;
  std::vector<float> rows;  // [count, C]
};

class ClipTextEncoder {
 public:
  ClipTextEncoder(Network& network, const WeightSource& source, const ClipTextConfig& config, DType compute);

  // ids: [N, 77] token ids, each row padded. clip_skip: how many layers before the penultimate to stop at (diffusers'
  // clip_skip: 1 takes the one before it). Pooled: the projected state of the first end-of-text token.
  ClipTextOutput operator()(std::span<const int> ids, int rows, int clip_skip, const ExtraTokens& extra = {}) const;

  const ClipTextConfig& config() const { return config_; }

 private:
  Tensor embed(std::span<const int> ids, int rows, const ExtraTokens& extra) const;
  std::vector<std::int64_t> end_positions(std::span<const int> ids, int rows) const;

  Network& network_;
  ClipTextConfig config_;
  HostTensor token_embedding_;     // [vocab, C], where it lies in the file
  HostTensor position_embedding_;  // [77, C]
  std::vector<ClipEncoderLayer> layers_;
  std::optional<LayerNorm> final_layer_norm_;
  std::optional<Linear> text_projection_;
};

}  // namespace darkroom::engine
