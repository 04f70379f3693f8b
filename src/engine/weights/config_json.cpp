#include "engine/weights/config_json.h"

#include <algorithm>
#include <utility>

#include "engine/weights/json_file.h"

namespace darkroom::engine {

namespace {

constexpr std::int64_t kMaxWidth = 1 << 16;  // channels; far above any model, far below overflow

void check_groups(ConfigReader& reader, const std::vector<std::int64_t>& channels, std::int64_t groups) {
  for (const std::int64_t width : channels) {
    if (width % groups != 0) {
      reader.refuse(ErrorCode::corrupt_data,
                    fmt::format("'block_out_channels' {} does not split into 'norm_num_groups' {}", width, groups));
    }
  }
}

// What the UNet and the ControlNet have in common: everything but the up blocks.
UnetConfig read_unet_half(ConfigReader& reader) {
  reader.only("center_input_sample", {false});
  reader.only("flip_sin_to_cos", {true});
  reader.only("freq_shift", {0});
  reader.only("only_cross_attention", {false});
  reader.only("mid_block_only_cross_attention", {false});
  reader.only("downsample_padding", {1});
  reader.only("mid_block_scale_factor", {1});
  reader.only("act_fn", {"silu", "swish"});
  reader.only("reverse_transformer_layers_per_block", {});
  reader.only("encoder_hid_dim", {});
  reader.only("encoder_hid_dim_type", {});
  reader.only("dual_cross_attention", {false});
  reader.only("class_embed_type", {});
  reader.only("num_class_embeds", {});
  reader.only("class_embeddings_concat", {false});
  reader.only("addition_embed_type", {"text_time"});
  reader.only("resnet_time_scale_shift", {"default"});
  reader.only("resnet_skip_time_act", {false});
  reader.only("resnet_out_scale_factor", {1});
  reader.only("time_embedding_type", {"positional"});
  reader.only("time_embedding_dim", {});
  reader.only("time_embedding_act_fn", {});
  reader.only("timestep_post_act", {});
  reader.only("conv_in_kernel", {3});
  reader.only("conv_out_kernel", {3});
  reader.only("attention_type", {"default"});
  reader.only("cross_attention_norm", {});
  if (reader.string("addition_embed_type", "").empty()) {
    reader.refuse(ErrorCode::unsupported, "'addition_embed_type' is absent: not an SDXL model");
  }

  UnetConfig config;
  config.in_channels = reader.integer("in_channels", 4, 1, 64);
  config.out_channels = reader.integer("out_channels", 4, 1, 64);
  config.block_out_channels = reader.integers("block_out_channels", 0, 1, kMaxWidth);
  const std::size_t levels = config.block_out_channels.size();
  if (levels < 1) reader.refuse(ErrorCode::corrupt_data, "'block_out_channels' is missing");
  config.layers_per_block = reader.integer("layers_per_block", 2, 1, 16);

  config.down_block_has_attention.clear();
  for (const std::string& type : reader.strings("down_block_types")) {
    if (type != "DownBlock2D" && type != "CrossAttnDownBlock2D") {
      reader.refuse(
          ErrorCode::unsupported,
          fmt::format("'down_block_types' has \"{}\"; implemented are DownBlock2D and CrossAttnDownBlock2D", type));
    }
    config.down_block_has_attention.push_back(type == "CrossAttnDownBlock2D");
  }
  reader.only("mid_block_type", {"UNetMidBlock2DCrossAttn", "UNetMidBlock2D"});
  config.mid_block_has_attention = reader.string("mid_block_type", "UNetMidBlock2DCrossAttn") != "UNetMidBlock2D";

  config.transformer_layers_per_block = reader.integers("transformer_layers_per_block", levels, 0, 64);
  if (config.transformer_layers_per_block.empty()) config.transformer_layers_per_block.assign(levels, 1);
  // compat(diffusers): num_attention_heads, where given, wins; attention_head_dim means the same.
  config.attention_head_dim = reader.integers("num_attention_heads", levels, 1, 1024);
  if (config.attention_head_dim.empty())
    config.attention_head_dim = reader.integers("attention_head_dim", levels, 1, 1024);
  if (config.attention_head_dim.empty()) config.attention_head_dim.assign(levels, 8);
  config.cross_attention_dim = reader.required_integer("cross_attention_dim", 1, kMaxWidth);
  config.use_linear_projection = reader.boolean("use_linear_projection", false);
  config.addition_time_embed_dim = reader.required_integer("addition_time_embed_dim", 2, kMaxWidth);
  config.projection_class_embeddings_input_dim =
      reader.required_integer("projection_class_embeddings_input_dim", 1, kMaxWidth);
  config.time_cond_proj_dim = reader.integer("time_cond_proj_dim", 0, 0, kMaxWidth);
  config.norm_num_groups = reader.integer("norm_num_groups", 32, 1, kMaxWidth);
  config.norm_eps = reader.number("norm_eps", 1e-5);

  const auto same_length = [&](const char* key, std::size_t length) {
    if (length != levels) {
      reader.refuse(ErrorCode::corrupt_data,
                    fmt::format("'{}' has {} values, 'block_out_channels' has {}", key, length, levels));
    }
  };
  same_length("down_block_types", config.down_block_has_attention.size());
  same_length("transformer_layers_per_block", config.transformer_layers_per_block.size());
  same_length("attention_head_dim", config.attention_head_dim.size());
  check_groups(reader, config.block_out_channels, config.norm_num_groups);
  for (std::size_t i = 0; i < std::min(levels, config.attention_head_dim.size()); ++i) {
    if (config.block_out_channels[i] % config.attention_head_dim[i] != 0) {
      reader.refuse(ErrorCode::corrupt_data, fmt::format("'attention_head_dim' {} does not divide {} channels",
                                                         config.attention_head_dim[i], config.block_out_channels[i]));
    }
  }
  return config;
}

}  // namespace

Result<UnetConfig> parse_unet_config(const nlohmann::json& json, const std::string& file) {
  ConfigReader reader(json, file);
  const UnetConfig config = read_unet_half(reader);
  std::vector<std::string> up_types = reader.strings("up_block_types");
  if (up_types.size() != config.down_block_has_attention.size()) {
    reader.refuse(ErrorCode::corrupt_data, fmt::format("'up_block_types' has {} values, 'down_block_types' has {}",
                                                       up_types.size(), config.down_block_has_attention.size()));
  }
  std::ranges::reverse(up_types);
  for (std::size_t i = 0; i < std::min(up_types.size(), config.down_block_has_attention.size()); ++i) {
    if (up_types[i] != (config.down_block_has_attention[i] ? "CrossAttnUpBlock2D" : "UpBlock2D")) {
      reader.refuse(
          ErrorCode::unsupported,
          fmt::format("'up_block_types' has \"{}\" against \"{}\" on the way down; implemented is the mirror image",
                      up_types[i], config.down_block_has_attention[i] ? "CrossAttnDownBlock2D" : "DownBlock2D"));
    }
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  return config;
}

Result<ControlNetConfig> parse_controlnet_config(const nlohmann::json& json, const std::string& file) {
  ConfigReader reader(json, file);
  ControlNetConfig config;
  config.unet = read_unet_half(reader);
  config.conditioning_channels = reader.integer("conditioning_channels", 3, 1, 64);
  if (auto channels = reader.integers("conditioning_embedding_out_channels", 1, 1, kMaxWidth); !channels.empty()) {
    config.conditioning_embedding_out_channels = std::move(channels);
  }
  reader.only("controlnet_conditioning_channel_order", {"rgb", "bgr"});
  config.conditioning_is_bgr = reader.string("controlnet_conditioning_channel_order", "rgb") == "bgr";
  reader.only("global_pool_conditions", {false});
  if (reader.error()) return tl::unexpected(*reader.error());
  return config;
}

Result<VaeConfig> parse_vae_config(const nlohmann::json& json, const std::string& file) {
  ConfigReader reader(json, file);
  reader.only("act_fn", {"silu", "swish"});
  VaeConfig config;
  config.in_channels = reader.integer("in_channels", 3, 1, 64);
  config.out_channels = reader.integer("out_channels", 3, 1, 64);
  config.latent_channels = reader.integer("latent_channels", 4, 1, 64);
  config.block_out_channels = reader.integers("block_out_channels", 0, 1, kMaxWidth);
  if (config.block_out_channels.empty()) reader.refuse(ErrorCode::corrupt_data, "'block_out_channels' is missing");
  config.layers_per_block = reader.integer("layers_per_block", 1, 1, 16);
  config.norm_num_groups = reader.integer("norm_num_groups", 32, 1, kMaxWidth);
  check_groups(reader, config.block_out_channels, config.norm_num_groups);
  // compat(diffusers): a VAE whose config says nothing has Stable Diffusion 1's factor.
  config.scaling_factor = reader.number("scaling_factor", 0.18215);
  config.shift_factor = reader.number("shift_factor", 0.0);
  if (config.scaling_factor == 0.0) reader.refuse(ErrorCode::corrupt_data, "'scaling_factor' is 0");
  config.latents_mean = reader.numbers("latents_mean");
  config.latents_std = reader.numbers("latents_std");
  for (const auto& [key, values] :
       {std::pair("latents_mean", &config.latents_mean), {"latents_std", &config.latents_std}}) {
    if (!values->empty() && std::ssize(*values) != config.latent_channels) {
      reader.refuse(ErrorCode::corrupt_data, fmt::format("'{}' has {} values, 'latent_channels' is {}", key,
                                                         values->size(), config.latent_channels));
    }
  }
  config.use_quant_conv = reader.boolean("use_quant_conv", true);
  config.use_post_quant_conv = reader.boolean("use_post_quant_conv", true);
  config.mid_block_add_attention = reader.boolean("mid_block_add_attention", true);

  for (const auto& [key, type] :
       {std::pair("down_block_types", "DownEncoderBlock2D"), {"up_block_types", "UpDecoderBlock2D"}}) {
    const auto types = reader.strings(key);
    for (const std::string& one : types) {
      if (one != type) {
        reader.refuse(ErrorCode::unsupported, fmt::format("'{}' has \"{}\"; implemented is {}", key, one, type));
      }
    }
    if (types.size() != config.block_out_channels.size()) {
      reader.refuse(ErrorCode::corrupt_data, fmt::format("'{}' has {} values, 'block_out_channels' has {}", key,
                                                         types.size(), config.block_out_channels.size()));
    }
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  return config;
}

Result<ClipTextConfig> parse_clip_text_config(const nlohmann::json& json, const std::string& file) {
  // A whole CLIPModel's config has the text model's inside.
  const auto inner = json.find("text_config");
  const bool nested = inner != json.end() && inner->is_object() && !json.contains("hidden_size");
  ConfigReader reader(nested ? *inner : json, file);
  ClipTextConfig config;
  // compat(transformers): the defaults of CLIPTextConfig, where a file leaves a value out.
  config.vocab_size = reader.integer("vocab_size", 49408, 1, 1 << 20);
  config.hidden_size = reader.integer("hidden_size", 512, 1, kMaxWidth);
  config.intermediate_size = reader.integer("intermediate_size", 2048, 1, kMaxWidth);
  config.num_hidden_layers = reader.integer("num_hidden_layers", 12, 1, 256);
  config.num_attention_heads = reader.integer("num_attention_heads", 8, 1, 1024);
  config.max_position_embeddings = reader.integer("max_position_embeddings", 77, 1, 1 << 16);
  config.projection_dim = reader.integer("projection_dim", 512, 1, kMaxWidth);
  config.layer_norm_eps = reader.number("layer_norm_eps", 1e-5);
  config.eos_token_id = reader.integer("eos_token_id", 49407, 0, 1 << 20);
  reader.only("hidden_act", {"quick_gelu", "gelu"});
  config.hidden_act = reader.string("hidden_act", "quick_gelu") == "gelu" ? HiddenAct::gelu : HiddenAct::quick_gelu;
  if (config.hidden_size % config.num_attention_heads != 0) {
    reader.refuse(ErrorCode::corrupt_data, fmt::format("'num_attention_heads' {} does not divide 'hidden_size' {}",
                                                       config.num_attention_heads, config.hidden_size));
  }
  if (reader.error()) return tl::unexpected(*reader.error());
  return config;
}

}  // namespace darkroom::engine
