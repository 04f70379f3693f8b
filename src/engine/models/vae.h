// The autoencoder between pictures and latents (Rombach et al. 2022): diffusers' AutoencoderKL.
#pragma once

#include <optional>
#include <vector>

#include "engine/models/bands.h"
#include "engine/models/unet_blocks.h"

namespace darkroom::engine {

// Self-attention over all pixels, one head.
struct VaeAttention {
  GroupNorm group_norm;
  Linear to_qkv;
  Linear to_out;

  static VaeAttention load(const Loader& loader, std::int64_t channels, int groups);
  Tensor operator()(const Tensor& x) const;  // [N,H,W,C]
};

struct VaeMidBlock {
  ResnetBlock resnet_0;
  std::optional<VaeAttention> attention;
  ResnetBlock resnet_1;

  static VaeMidBlock load(const Loader& loader, std::int64_t channels, const VaeConfig& config);
  Tensor operator()(Tensor x) const;
};

class VaeDecoder {
 public:
  VaeDecoder(Network& network, const WeightSource& source, const VaeConfig& config, DType compute);
  // Raw latents [N,h,w,4] f32 (scaling undone) → picture [N,8h,8w,3] f32, about −1 to 1.
  Tensor operator()(const Tensor& latents) const;
  // The same in less memory and more time, N = 1.
  Tensor in_bands(const Tensor& latents, const Banding& banding) const;

 private:
  Tensor begin(const Tensor& latents) const;  // [N,h,w,C], what the first level takes

  struct Level {
    std::vector<ResnetBlock> resnets;
    std::optional<Upsample2D> upsampler;
  };
  DType stream_;  // of the residual stream
  std::optional<Conv2d> post_quant_conv_;
  Conv2d conv_in_;
  VaeMidBlock mid_block_;
  std::vector<Level> up_blocks_;
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
};

class VaeEncoder {
 public:
  VaeEncoder(Network& network, const WeightSource& source, const VaeConfig& config, DType compute);
  // Picture [N,8h,8w,3] f32 in [−1,1] → [N,h,w,8] f32: the mean's channels, then the log variance's, not yet clamped.
  Tensor operator()(const Tensor& picture) const;
  // The same in less memory and more time, N = 1.
  Tensor in_bands(const Tensor& picture, const Banding& banding) const;

 private:
  Tensor end(Tensor x) const;  // what the last level gives → the result

  struct Level {
    std::vector<ResnetBlock> resnets;
    std::optional<Conv2d> downsampler;
  };
  DType stream_;
  Conv2d conv_in_;
  std::vector<Level> down_blocks_;
  VaeMidBlock mid_block_;
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
  std::optional<Conv2d> quant_conv_;
};

}  // namespace darkroom::engine
