// SDXL's UNet (Podell et al. 2023), base, refiner and inpainting: diffusers' UNet2DConditionModel.
#pragma once

#include <functional>

#include "engine/models/freeu.h"
#include "engine/models/unet_blocks.h"

namespace darkroom::engine {

struct UnetCall {
  // Called between the two halves: ControlNets add to what the encoder made, in place. Empty: nothing does.
  std::function<void(EncoderStates&)> control;
  // The last rows whose self-attention in the middle block sees each token alone: perturbed-attention guidance (Ahn
  // et al. 2024).
  std::int64_t perturbed = 0;
  const FreeU* freeu = nullptr;
};

struct UpBlock {
  std::vector<ResnetBlock> resnets;
  std::vector<Transformer2D> attentions;
  std::optional<Upsample2D> upsampler;
};

class Unet {
 public:
  Unet(Network& network, const WeightSource& source, const UnetConfig& config, DType compute);

  const UnetConfig& config() const { return config_; }

  // Once per generation. context [N,S,cross_attention_dim] f32.
  std::vector<PromptKeys> prompt_keys(const Tensor& context) const;
  std::vector<TimeRows> time_rows(const TimeInputs& inputs) const { return time_embedding_(inputs); }

  // One pass: latents [N,H,W,in_channels] f32, scaled for the timestep → the model's prediction [N,H,W,4] f32.
  Tensor operator()(const Tensor& latents, const TimeRows& time, std::span<const PromptKeys> prompt,
                    const UnetCall& call = {}) const;

 private:
  UnetConfig config_;
  Conv2d conv_in_;
  Encoder encoder_;
  std::vector<UpBlock> up_blocks_;
  GroupNorm conv_norm_out_;
  Conv2d conv_out_;
  TimeEmbedding time_embedding_;
  std::vector<Linear> prompt_projections_;
};

}  // namespace darkroom::engine
