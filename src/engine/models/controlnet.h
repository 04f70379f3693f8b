// ControlNet for SDXL (Zhang et al. 2023): a copy of the UNet's encoder that looks at a control picture and adds to
// the UNet's skip connections. diffusers' ControlNetModel.
#pragma once

#include "engine/models/control_types.h"
#include "engine/models/unet.h"

namespace darkroom::engine {

// The control picture at an eighth of its size, in the UNet's width.
struct ConditioningEmbedding {
  Conv2d conv_in;
  std::vector<Conv2d> blocks;
  Conv2d conv_out;

  static ConditioningEmbedding load(const Loader& loader, const ControlNetConfig& config);
  Tensor operator()(const Tensor& picture) const;  // [N,8H,8W,3] in [0,1] → [N,H,W,C0] f32
};

// What a pass of a ControlNet looks at.
struct ControlPass {
  const Tensor& latents;  // [N,H,W,4] f32, scaled for the timestep
  const Tensor& picture;  // embedded, [N,H,W,C0] f32
  const TimeRows& time;
  std::span<const PromptKeys> prompt;
  std::span<const float> scales;  // of what it adds: one for each skip connection and one, the last, for the middle
};

class ControlNet {
 public:
  ControlNet(Network& network, const WeightSource& source, const ControlNetConfig& config, DType compute);

  std::vector<PromptKeys> prompt_keys(const Tensor& context) const;
  // type: the kind of the picture, for a Union model (control_types.h); any for others.
  std::vector<TimeRows> time_rows(TimeInputs inputs, int type = 0) const;
  // Once per generation: pictures [N,8H,8W,3] f32 in [0,1] → [N,H,W,C0] f32.
  Tensor embed(const Tensor& pictures, int type = 0) const;

  // One pass: what the zero convolutions make of each state is added to the rows of the UNet's states from `first` on,
  // in place. Returns the middle block's own result, which is finite where all is.
  Tensor add_to(EncoderStates& unet, std::int64_t first, const ControlPass& pass) const;
  // How many scales that takes.
  std::size_t scale_count() const { return zero_convs_.size() + 1; }

 private:
  ControlNetConfig config_;
  Conv2d conv_in_;
  ConditioningEmbedding conditioning_embedding_;
  Encoder encoder_;
  std::vector<Linear> zero_convs_;  // controlnet_down_blocks
  Linear mid_zero_conv_;            // controlnet_mid_block
  TimeEmbedding time_embedding_;
  std::vector<Linear> prompt_projections_;
  std::optional<ControlTypes> types_;  // of a Union model
};

}  // namespace darkroom::engine
