// What makes one ControlNet serve many kinds of pictures: diffusers' ControlNetUnionModel (xinsir's ControlNet++). The
// kind is told to the time embedding, and shifts the control picture's embedding.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/nn/layers.h"

namespace darkroom::engine {

// The number of a kind, as xinsir's models count them: "canny" → 3. Error invalid_argument names those there are.
Result<int> control_type_index(std::string_view name, std::int64_t num_control_type);

struct ControlTypes {
  // num: of kinds. channels: of the control picture's embedding. time_id_channels: addition_time_embed_dim.
  static ControlTypes load(const Loader& root, std::int64_t num, std::int64_t channels, std::int64_t time_id_channels);

  // What a kind adds to the time embedding: [T].
  std::vector<float> time_embedding(int type) const;
  // Embedded control pictures [N,h,w,C] f32, each moved by what the kind and the picture's mean say.
  Tensor shifted(const Tensor& pictures, int type) const;

 private:
  // y = W·x + b on the host: the picture's mean alone goes through these.
  struct HostLinear {
    std::vector<float> weight;  // [O, I]
    std::vector<float> bias;    // [O]
    std::vector<float> operator()(const std::vector<float>& x) const;
  };
  struct HostNorm {
    std::vector<float> weight;
    std::vector<float> bias;
    std::vector<float> operator()(const std::vector<float>& x) const;
  };
  std::vector<float> shift(std::span<const float> pixels, int type) const;  // [h,w,C] → [C]

  struct ResidualAttention {
    HostNorm ln_1;
    HostLinear value;  // the last third of attn.in_proj
    HostLinear out_proj;
    HostNorm ln_2;
    HostLinear c_fc;
    HostLinear c_proj;
  };
  static std::vector<float> values(const Loader& root, std::string_view name, const Shape& shape);
  static HostLinear load_linear(const Loader& root, std::int64_t in, std::int64_t out);
  static HostNorm load_norm(const Loader& root, std::int64_t channels);

  std::int64_t num_ = 0;
  std::int64_t channels_ = 0;
  std::int64_t time_id_channels_ = 0;
  std::vector<float> task_embedding_;  // [num, C]
  std::vector<ResidualAttention> transformer_layes_;
  HostLinear spatial_ch_projs_;
  HostLinear time_linear_1_;  // control_add_embedding
  HostLinear time_linear_2_;
};

}  // namespace darkroom::engine
