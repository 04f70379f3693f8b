// What a model's parts look like: the values of diffusers' and transformers' config.json that the engine acts on,
// named as there. A single-file checkpoint has no config.json; the same values are then inferred from its shapes.
// A config with a value that the engine does not implement is refused when it is read (checkpoint.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace darkroom::engine {

// UNet2DConditionModel. Vectors have one element a level, from the highest resolution to the lowest.
struct UnetConfig {
  std::int64_t in_channels = 4;  // 4, or 9 for inpainting
  std::int64_t out_channels = 4;
  std::vector<std::int64_t> block_out_channels = {320, 640, 1280};
  std::int64_t layers_per_block = 2;  // resnets of a down block; an up block has one more
  std::vector<bool> down_block_has_attention = {false, true, true};  // up blocks are the same, reversed
  bool mid_block_has_attention = true;
  std::vector<std::int64_t> transformer_layers_per_block = {1, 2, 10};  // the middle block has the last one's
  // compat(diffusers): despite its name the number of heads; a head is block_out_channels / this wide.
  std::vector<std::int64_t> attention_head_dim = {5, 10, 20};
  std::int64_t cross_attention_dim = 2048;
  bool use_linear_projection = true;  // proj_in and proj_out are [C,C]; else [C,C,1,1]
  std::int64_t addition_time_embed_dim = 256;
  std::int64_t projection_class_embeddings_input_dim = 2816;
  std::int64_t time_cond_proj_dim = 0;  // guidance embedding of distilled (LCM) UNets; 0: none
  std::int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;

  std::int64_t time_embed_dim() const { return 4 * block_out_channels.front(); }
  bool operator==(const UnetConfig&) const = default;
};

// ControlNetModel: the UNet's down and middle half, and the picture's own embedding.
struct ControlNetConfig {
  UnetConfig unet;  // out_channels is not used
  std::int64_t conditioning_channels = 3;
  std::vector<std::int64_t> conditioning_embedding_out_channels = {16, 32, 96, 256};
  bool conditioning_is_bgr = false;  // controlnet_conditioning_channel_order
  // Kinds of pictures that a Union model (ControlNetUnionModel) can be told apart; 0: the model is for one kind.
  std::int64_t num_control_type = 0;
  bool operator==(const ControlNetConfig&) const = default;
};

// AutoencoderKL.
struct VaeConfig {
  std::int64_t in_channels = 3;
  std::int64_t out_channels = 3;
  std::int64_t latent_channels = 4;
  std::vector<std::int64_t> block_out_channels = {128, 256, 512, 512};
  std::int64_t layers_per_block = 2;  // resnets of an encoder block; a decoder block has one more
  std::int64_t norm_num_groups = 32;
  double scaling_factor = 0.13025;
  double shift_factor = 0.0;
  std::vector<double> latents_mean;  // empty, or one a latent channel
  std::vector<double> latents_std;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;
  bool operator==(const VaeConfig&) const = default;
};

// RRDBNet (ESRGAN, Real-ESRGAN), named as basicsr's arguments.
struct RrdbnetConfig {
  std::int64_t num_feat = 64;
  std::int64_t num_block = 23;
  std::int64_t num_grow_ch = 32;
  int unshuffle = 1;  // squares of that side become channels first: 2 and 4 in Real-ESRGAN's x2 and x1
  int doublings = 2;

  int scale() const { return (1 << doublings) / unshuffle; }
  bool operator==(const RrdbnetConfig&) const = default;
};

// SRVGGNetCompact (Real-ESRGAN's small networks), named as basicsr's arguments.
struct CompactConfig {
  std::int64_t num_feat = 64;
  std::int64_t num_conv = 16;  // between the first and the last
  int upscale = 4;

  int scale() const { return upscale; }
  bool operator==(const CompactConfig&) const = default;
};

using UpscalerConfig = std::variant<RrdbnetConfig, CompactConfig>;

enum class HiddenAct : std::uint8_t { quick_gelu, gelu };

// CLIPTextModel and CLIPTextModelWithProjection.
struct ClipTextConfig {
  std::int64_t vocab_size = 49408;
  std::int64_t hidden_size = 768;
  std::int64_t intermediate_size = 3072;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t max_position_embeddings = 77;
  std::int64_t projection_dim = 768;
  HiddenAct hidden_act = HiddenAct::quick_gelu;
  double layer_norm_eps = 1e-5;
  // The token whose first occurrence is pooled.
  // compat(transformers): the value 2 means "the position of the highest id", as old configs have it.
  std::int64_t eos_token_id = 49407;
  bool has_projection = false;  // text_projection.weight, [projection_dim, hidden_size]
  bool operator==(const ClipTextConfig&) const = default;
};

enum class ModelKind : std::uint8_t { base, refiner, inpaint };
enum class PredictionType : std::uint8_t { epsilon, v_prediction, sample };

// What is known of the whole model besides its parts.
struct ModelInfo {
  ModelKind kind = ModelKind::base;
  std::optional<PredictionType>
      prediction_type;                         // as the scheduler's config or a marker in the file says; else unknown
  std::optional<bool> rescale_betas_zero_snr;  // likewise
  std::optional<double> edm_sigma_max;         // edm_vpred.sigma_max, where the file has it
  bool force_zeros_for_empty_prompt = true;
  bool requires_aesthetics_score = false;  // the refiner's conditioning
};

}  // namespace darkroom::engine
