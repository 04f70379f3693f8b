#include "engine/weights/key_map_sdxl.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

namespace darkroom::engine {

namespace {

using Entries = KeyMappedSource::Entries;
using Rename = std::pair<std::string_view, std::string_view>;

constexpr int kMaxIndex = 256;  // blocks or layers looked for; more is no model of this kind

constexpr std::array<Rename, 6> kResnet{{{"in_layers.0.", "norm1."},
                                         {"in_layers.2.", "conv1."},
                                         {"emb_layers.1.", "time_emb_proj."},
                                         {"out_layers.0.", "norm2."},
                                         {"out_layers.3.", "conv2."},
                                         {"skip_connection.", "conv_shortcut."}}};
constexpr std::array<Rename, 1> kDownsample{{{"op.", "conv."}}};
constexpr std::array<Rename, 1> kVaeResnet{{{"nin_shortcut.", "conv_shortcut."}}};
constexpr std::array<Rename, 9> kVaeAttention{{{"norm.", "group_norm."},
                                               {"q.", "to_q."},
                                               {"k.", "to_k."},
                                               {"v.", "to_v."},
                                               {"proj_out.", "to_out.0."},
                                               {"query.", "to_q."},
                                               {"key.", "to_k."},
                                               {"value.", "to_v."},
                                               {"proj_attn.", "to_out.0."}}};
constexpr std::array<Rename, 8> kOpenClipLayer{{{"attn.out_proj.", "self_attn.out_proj."},
                                                {"ln_1.", "layer_norm1."},
                                                {"ln_2.", "layer_norm2."},
                                                {"mlp.c_fc.", "mlp.fc1."},
                                                {"mlp.c_proj.", "mlp.fc2."},
                                                {"attn.in_proj_", "self_attn.in_proj_"},
                                                {"mlp.fc1.", "mlp.fc1."},
                                                {"mlp.fc2.", "mlp.fc2."}}};

struct Module {
  std::string target;                    // "down_blocks.1.resnets.0"
  std::span<const Rename> renames = {};  // of what follows; anything else keeps its name
};
using Modules = std::map<std::string, Module, std::less<>>;

std::string renamed(std::string_view rest, std::span<const Rename> renames) {
  for (const auto& [from, to] : renames) {
    if (rest.starts_with(from)) return fmt::format("{}{}", to, rest.substr(from.size()));
  }
  return std::string(rest);
}

// The other way round: what was renamed to `rest`.
std::string renamed_back(std::string_view rest, std::span<const Rename> renames) {
  for (const auto& [from, to] : renames) {
    if (rest.starts_with(to)) return fmt::format("{}{}", from, rest.substr(to.size()));
  }
  return std::string(rest);
}

using RenameRest = std::string (*)(std::string_view, std::span<const Rename>);

// The name of `rest` after its longest prefix (of whole components) in `modules`; empty if none is there.
std::string mapped_name(std::string_view rest, const Modules& modules, RenameRest rename_rest = renamed) {
  for (std::size_t dot = rest.rfind('.'); dot != std::string_view::npos && dot > 0; dot = rest.rfind('.', dot - 1)) {
    const auto found = modules.find(rest.substr(0, dot));
    if (found != modules.end()) {
      return fmt::format("{}.{}", found->second.target, rename_rest(rest.substr(dot + 1), found->second.renames));
    }
  }
  return {};
}

// Looks up what lies under a prefix of a source and remembers the first failure.
class Prefixed {
 public:
  Prefixed(const WeightSource& source, std::string_view prefix) : source_(source), prefix_(prefix) {}

  bool has(std::string_view name) const { return source_.contains(prefix_ + std::string(name)); }

  std::int64_t dim(std::string_view name, int axis) {
    const auto info = source_.info(prefix_ + std::string(name));
    if (!info) {
      refuse(ErrorCode::corrupt_data, fmt::format("no tensor '{}{}'", prefix_, name));
      return 1;
    }
    if (axis >= info->shape.rank() || info->shape[axis] < 1) {
      refuse(ErrorCode::corrupt_data, fmt::format("tensor '{}{}' has the shape {}", prefix_, name, info->shape.str()));
      return 1;
    }
    return info->shape[axis];
  }

  int rank(std::string_view name) const {
    const auto info = source_.info(prefix_ + std::string(name));
    return info ? info->shape.rank() : 0;
  }

  // How many of format(0), format(1), … there are.
  template <class Format>
  int count(Format format) const {
    int n = 0;
    while (n < kMaxIndex && has(format(n))) ++n;
    return n;
  }

  // Names without the prefix.
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const std::string& name : source_.names()) {
      if (name.starts_with(prefix_)) result.push_back(name.substr(prefix_.size()));
    }
    return result;
  }

  void refuse(ErrorCode code, const std::string& message) {
    if (!error_) error_ = Error{code, fmt::format("{}: {}", source_.describe(), message)};
  }
  // Tells of a tensor that the layout has no place for.
  void stray(std::string_view name) {
    refuse(ErrorCode::unsupported, fmt::format("tensor '{}{}' has no place in an SDXL model", prefix_, name));
  }
  const std::optional<Error>& error() const { return error_; }
  const std::string& prefix() const { return prefix_; }

 private:
  const WeightSource& source_;
  std::string prefix_;
  std::optional<Error> error_;
};

void put(Entries& entries, Prefixed& part, std::string target, const KeyMappedSource::Entry& entry) {
  const auto [at, added] = entries.try_emplace(std::move(target), entry);
  if (!added) part.refuse(ErrorCode::corrupt_data, fmt::format("two tensors for '{}'", at->first));
}

template <class Config>
Result<MappedPart<Config>> finish(const Prefixed& part, MappedPart<Config> mapped) {
  if (part.error()) return tl::unexpected(*part.error());
  return mapped;
}

// Transformer blocks of the attention module at `base`.
int transformer_layers(const Prefixed& part, const std::string& base) {
  return part.count([&](int n) { return fmt::format("{}.transformer_blocks.{}.norm1.weight", base, n); });
}

std::int64_t heads_of(Prefixed& part, std::int64_t channels, bool has_attention) {
  if (has_attention && channels % 64 != 0) {
    part.refuse(ErrorCode::unsupported, fmt::format("an attention of {} channels, not a multiple of 64", channels));
  }
  return std::max<std::int64_t>(1, channels / 64);
}

// input_blocks: conv_in, then a level's resnets (each with its attention) and its downsampler, and so on.
void walk_down(Prefixed& part, UnetConfig& config, Modules& modules) {
  modules["input_blocks.0.0"] = {"conv_in"};
  std::vector<std::int64_t> layers;  // resnets of each level
  for (int i = 1; i < kMaxIndex; ++i) {
    const std::string base = fmt::format("input_blocks.{}", i);
    if (!layers.empty() && part.has(base + ".0.op.weight")) {
      modules[base + ".0"] = {fmt::format("down_blocks.{}.downsamplers.0", layers.size() - 1), kDownsample};
      layers.push_back(0);
      continue;
    }
    if (!part.has(base + ".0.in_layers.2.weight")) break;
    if (layers.empty()) layers.push_back(0);
    const std::size_t level = layers.size() - 1;
    const std::int64_t layer = layers.back()++;
    const std::int64_t channels = part.dim(base + ".0.out_layers.3.weight", 0);
    const int depth = transformer_layers(part, base + ".1");
    modules[base + ".0"] = {fmt::format("down_blocks.{}.resnets.{}", level, layer), kResnet};
    if (depth > 0) modules[base + ".1"] = {fmt::format("down_blocks.{}.attentions.{}", level, layer)};
    if (layer == 0) {
      config.block_out_channels.push_back(channels);
      config.down_block_has_attention.push_back(depth > 0);
      config.transformer_layers_per_block.push_back(std::max(depth, 1));
      config.attention_head_dim.push_back(heads_of(part, channels, depth > 0));
      if (depth > 0) {
        config.cross_attention_dim = part.dim(base + ".1.transformer_blocks.0.attn2.to_k.weight", 1);
        config.use_linear_projection = part.rank(base + ".1.proj_in.weight") == 2;
      }
    } else if (channels != config.block_out_channels.back() ||
               std::max(depth, 1) != config.transformer_layers_per_block.back() ||
               (depth > 0) != config.down_block_has_attention.back()) {
      part.refuse(ErrorCode::unsupported, fmt::format("the layers of level {} differ from each other", level));
    }
  }
  if (layers.empty() || layers.back() == 0) {
    part.refuse(ErrorCode::corrupt_data, fmt::format("no '{}input_blocks' with a resnet", part.prefix()));
    return;
  }
  config.layers_per_block = layers.front();
  if (std::ranges::any_of(layers, [&](std::int64_t n) { return n != layers.front(); })) {
    part.refuse(ErrorCode::unsupported,
                fmt::format("levels have {} layers, not all the same", fmt::join(layers, ", ")));
  }
}

void walk_middle(Prefixed& part, UnetConfig& config, Modules& modules) {
  const int depth = transformer_layers(part, "middle_block.1");
  config.mid_block_has_attention = depth > 0;
  modules["middle_block.0"] = {"mid_block.resnets.0", kResnet};
  if (depth > 0) modules["middle_block.1"] = {"mid_block.attentions.0"};
  modules[depth > 0 ? "middle_block.2" : "middle_block.1"] = {"mid_block.resnets.1", kResnet};
  // diffusers has one number for the last level and the middle.
  if (depth == 0 || config.down_block_has_attention.empty()) return;
  if (!config.down_block_has_attention.back()) {
    config.transformer_layers_per_block.back() = depth;
  } else if (config.transformer_layers_per_block.back() != depth) {
    part.refuse(ErrorCode::unsupported, fmt::format("{} transformer layers in the middle, {} in the last level", depth,
                                                    config.transformer_layers_per_block.back()));
  }
}

void walk_up(const Prefixed& part, const UnetConfig& config, Modules& modules) {
  const std::int64_t per_level = config.layers_per_block + 1;
  for (std::int64_t i = 0; i < per_level * std::ssize(config.block_out_channels); ++i) {
    const std::string base = fmt::format("output_blocks.{}", i);
    modules[base + ".0"] = {fmt::format("up_blocks.{}.resnets.{}", i / per_level, i % per_level), kResnet};
    for (int j = 1; j <= 2; ++j) {
      const std::string inner = fmt::format("{}.{}", base, j);
      if (part.has(inner + ".conv.weight")) {
        modules[inner] = {fmt::format("up_blocks.{}.upsamplers.0", i / per_level)};
      } else if (part.has(inner + ".proj_in.weight")) {
        modules[inner] = {fmt::format("up_blocks.{}.attentions.{}", i / per_level, i % per_level)};
      }
    }
  }
}

// What a UNet and a ControlNet share.
void walk_contracting_half(Prefixed& part, UnetConfig& config, Modules& modules) {
  config.block_out_channels.clear();
  config.down_block_has_attention.clear();
  config.transformer_layers_per_block.clear();
  config.attention_head_dim.clear();
  config.in_channels = part.dim("input_blocks.0.0.weight", 1);
  config.projection_class_embeddings_input_dim = part.dim("label_emb.0.0.weight", 1);
  modules["time_embed.0"] = {"time_embedding.linear_1"};
  modules["time_embed.2"] = {"time_embedding.linear_2"};
  modules["label_emb.0.0"] = {"add_embedding.linear_1"};
  modules["label_emb.0.2"] = {"add_embedding.linear_2"};
  walk_down(part, config, modules);
  walk_middle(part, config, modules);
}

void put_all(Prefixed& part, const Modules& modules, Entries& entries) {
  for (const std::string& name : part.names()) {
    std::string target = mapped_name(name, modules);
    if (target.empty()) {
      part.stray(name);
    } else {
      put(entries, part, std::move(target), {.source = part.prefix() + name});
    }
  }
}

}  // namespace

bool set_time_id_channels(UnetConfig& config) {
  constexpr std::int64_t kPooled = 1280;  // OpenCLIP bigG's summary of a text
  constexpr std::int64_t kNumbers = 6;    // sizes and corner
  const std::int64_t channels = config.projection_class_embeddings_input_dim - kPooled;
  config.addition_time_embed_dim = channels / kNumbers;
  return channels > 0 && channels % kNumbers == 0;
}

Result<MappedPart<UnetConfig>> map_original_unet(const WeightSource& source, std::string_view prefix) {
  Prefixed part(source, prefix);
  MappedPart<UnetConfig> mapped;
  UnetConfig& config = mapped.config;
  config.out_channels = part.dim("out.2.weight", 0);
  if (part.has("time_embed.cond_proj.weight")) config.time_cond_proj_dim = part.dim("time_embed.cond_proj.weight", 1);
  Modules modules{
      {"time_embed.cond_proj", {"time_embedding.cond_proj"}}, {"out.0", {"conv_norm_out"}}, {"out.2", {"conv_out"}}};
  walk_contracting_half(part, config, modules);
  walk_up(part, config, modules);
  put_all(part, modules, mapped.entries);
  return finish(part, std::move(mapped));
}

Result<MappedPart<ControlNetConfig>> map_original_controlnet(const WeightSource& source, std::string_view prefix) {
  Prefixed part(source, prefix);
  MappedPart<ControlNetConfig> mapped;
  ControlNetConfig& config = mapped.config;
  Modules modules{{"middle_block_out.0", {"controlnet_mid_block"}}};
  walk_contracting_half(part, config.unet, modules);
  if (!set_time_id_channels(config.unet)) {
    part.refuse(ErrorCode::unsupported, fmt::format("'{}label_emb' takes {} values, an SDXL ControlNet 2816", prefix,
                                                    config.unet.projection_class_embeddings_input_dim));
  }
  for (int i = 0; part.has(fmt::format("zero_convs.{}.0.weight", i)); ++i) {
    modules[fmt::format("zero_convs.{}.0", i)] = {fmt::format("controlnet_down_blocks.{}", i)};
  }
  // Convolutions stand at even numbers, activations between them.
  const auto hint = [](int n) { return fmt::format("input_hint_block.{}", 2 * n); };
  const int hints = part.count([&](int n) { return hint(n) + ".weight"; });
  config.conditioning_channels = part.dim("input_hint_block.0.weight", 1);
  config.conditioning_embedding_out_channels = {part.dim("input_hint_block.0.weight", 0)};
  modules[hint(0)] = {"controlnet_cond_embedding.conv_in"};
  for (int n = 1; n + 1 < hints; ++n) {
    modules[hint(n)] = {fmt::format("controlnet_cond_embedding.blocks.{}", n - 1)};
    if (n % 2 == 0) config.conditioning_embedding_out_channels.push_back(part.dim(hint(n) + ".weight", 0));
  }
  modules[hint(hints - 1)] = {"controlnet_cond_embedding.conv_out"};
  put_all(part, modules, mapped.entries);
  return finish(part, std::move(mapped));
}

Result<MappedPart<VaeConfig>> map_original_vae(const WeightSource& source, std::string_view prefix) {
  Prefixed part(source, prefix);
  MappedPart<VaeConfig> mapped;
  VaeConfig& config = mapped.config;
  config.in_channels = part.dim("encoder.conv_in.weight", 1);
  config.out_channels = part.dim("decoder.conv_out.weight", 0);
  config.latent_channels = part.dim("decoder.conv_in.weight", 1);
  config.use_quant_conv = part.has("quant_conv.weight");
  config.use_post_quant_conv = part.has("post_quant_conv.weight");
  config.mid_block_add_attention = part.has("decoder.mid.attn_1.q.weight");

  Modules modules;
  for (const char* plain : {"encoder.conv_in", "encoder.conv_out", "decoder.conv_in", "decoder.conv_out", "quant_conv",
                            "post_quant_conv"}) {
    modules[plain] = {plain};
  }
  for (const std::string coder : {"encoder", "decoder"}) {
    modules[coder + ".norm_out"] = {coder + ".conv_norm_out"};
    modules[coder + ".mid.block_1"] = {coder + ".mid_block.resnets.0", kVaeResnet};
    modules[coder + ".mid.block_2"] = {coder + ".mid_block.resnets.1", kVaeResnet};
    modules[coder + ".mid.attn_1"] = {coder + ".mid_block.attentions.0", kVaeAttention};
  }
  const int levels = part.count([](int n) { return fmt::format("encoder.down.{}.block.0.conv2.weight", n); });
  if (levels == 0) part.refuse(ErrorCode::corrupt_data, fmt::format("no '{}encoder.down' blocks", part.prefix()));
  config.block_out_channels.clear();
  for (int level = 0; level < levels; ++level) {
    config.block_out_channels.push_back(part.dim(fmt::format("encoder.down.{}.block.0.conv2.weight", level), 0));
    const int layers =
        part.count([&](int n) { return fmt::format("encoder.down.{}.block.{}.conv2.weight", level, n); });
    if (level == 0) config.layers_per_block = layers;
    if (layers != config.layers_per_block) {
      part.refuse(ErrorCode::unsupported, fmt::format("'{}encoder.down.{}' has {} layers, level 0 has {}",
                                                      part.prefix(), level, layers, config.layers_per_block));
    }
    // The original counts the decoder's levels from the picture, diffusers from the latents.
    const int up = levels - 1 - level;
    for (int n = 0; n <= layers; ++n) {
      modules[fmt::format("encoder.down.{}.block.{}", level, n)] = {
          fmt::format("encoder.down_blocks.{}.resnets.{}", level, n), kVaeResnet};
      modules[fmt::format("decoder.up.{}.block.{}", level, n)] = {fmt::format("decoder.up_blocks.{}.resnets.{}", up, n),
                                                                  kVaeResnet};
    }
    modules[fmt::format("encoder.down.{}.downsample", level)] = {
        fmt::format("encoder.down_blocks.{}.downsamplers.0", level)};
    modules[fmt::format("decoder.up.{}.upsample", level)] = {fmt::format("decoder.up_blocks.{}.upsamplers.0", up)};
  }

  for (const std::string& name : part.names()) {
    std::string target = mapped_name(name, modules);
    if (target.empty()) {
      // A bare VAE file shares its (empty) prefix with training leftovers.
      if (name.starts_with("encoder.") || name.starts_with("decoder.")) part.stray(name);
      continue;
    }
    const bool is_matrix = target.find(".attentions.") != std::string::npos && part.rank(name) > 1;
    put(mapped.entries, part, std::move(target), {.source = part.prefix() + name, .drop_trailing = is_matrix});
  }
  return finish(part, std::move(mapped));
}

Result<MappedPart<VaeConfig>> map_diffusers_vae(const WeightSource& source) {
  Prefixed part(source, "");
  MappedPart<VaeConfig> mapped;
  VaeConfig& config = mapped.config;
  config.in_channels = part.dim("encoder.conv_in.weight", 1);
  config.out_channels = part.dim("decoder.conv_out.weight", 0);
  config.latent_channels = part.dim("decoder.conv_in.weight", 1);
  config.use_quant_conv = part.has("quant_conv.weight");
  config.use_post_quant_conv = part.has("post_quant_conv.weight");
  config.mid_block_add_attention = part.has("decoder.mid_block.attentions.0.group_norm.weight");
  config.block_out_channels.clear();
  const auto conv = [](int level, int n) {
    return fmt::format("encoder.down_blocks.{}.resnets.{}.conv2.weight", level, n);
  };
  const int levels = part.count([&](int n) { return conv(n, 0); });
  if (levels == 0) part.refuse(ErrorCode::corrupt_data, "no 'encoder.down_blocks'");
  for (int level = 0; level < levels; ++level) config.block_out_channels.push_back(part.dim(conv(level, 0), 0));
  config.layers_per_block = part.count([&](int n) { return conv(0, n); });

  const Modules modules{{"encoder.mid_block.attentions.0", {"encoder.mid_block.attentions.0", kVaeAttention}},
                        {"decoder.mid_block.attentions.0", {"decoder.mid_block.attentions.0", kVaeAttention}}};
  for (const std::string& name : part.names()) {
    std::string target = mapped_name(name, modules);
    const bool is_matrix = !target.empty() && part.rank(name) > 1;
    if (target.empty()) target = name;
    put(mapped.entries, part, std::move(target), {.source = name, .drop_trailing = is_matrix});
  }
  return finish(part, std::move(mapped));
}

Result<MappedPart<ClipTextConfig>> map_openclip_text(const WeightSource& source, std::string_view prefix) {
  Prefixed part(source, prefix);
  MappedPart<ClipTextConfig> mapped;
  ClipTextConfig& config = mapped.config;
  config.hidden_act = HiddenAct::gelu;
  config.vocab_size = part.dim("token_embedding.weight", 0);
  config.hidden_size = part.dim("token_embedding.weight", 1);
  config.max_position_embeddings = part.dim("positional_embedding", 0);
  config.intermediate_size = part.dim("transformer.resblocks.0.mlp.c_fc.weight", 0);
  config.num_hidden_layers = part.count([](int n) { return fmt::format("transformer.resblocks.{}.ln_1.weight", n); });
  config.num_attention_heads = heads_of(part, config.hidden_size, /*has_attention=*/true);
  config.has_projection = part.has("text_projection") || part.has("text_projection.weight");
  config.projection_dim = part.has("text_projection") ? part.dim("text_projection", 1) : config.hidden_size;
  if (part.has("text_projection.weight")) config.projection_dim = part.dim("text_projection.weight", 0);

  Modules modules{{"token_embedding", {"text_model.embeddings.token_embedding"}},
                  {"ln_final", {"text_model.final_layer_norm"}},
                  {"text_projection", {"text_projection"}}};
  for (std::int64_t n = 0; n < config.num_hidden_layers; ++n) {
    modules[fmt::format("transformer.resblocks.{}", n)] = {fmt::format("text_model.encoder.layers.{}", n),
                                                           kOpenClipLayer};
  }
  for (const std::string& name : part.names()) {
    const std::string full = part.prefix() + name;
    if (name == "logit_scale" || name == "attn_mask" || name.ends_with("position_ids")) continue;
    if (name == "positional_embedding") {
      put(mapped.entries, part, "text_model.embeddings.position_embedding.weight", {.source = full});
      continue;
    }
    if (name == "text_projection") {
      put(mapped.entries, part, "text_projection.weight", {.source = full, .transpose = true});
      continue;
    }
    const std::string target = mapped_name(name, modules);
    if (target.empty()) {
      part.stray(name);
      continue;
    }
    constexpr std::string_view kFused = "in_proj_";
    if (const auto at = target.find(kFused); at != std::string::npos) {
      for (int i = 0; i < 3; ++i) {
        put(mapped.entries, part,
            fmt::format("{}{}_proj.{}", target.substr(0, at), "qkv"[i], target.substr(at + kFused.size())),
            {.source = full, .part = i, .parts = 3});
      }
      continue;
    }
    put(mapped.entries, part, target, {.source = full});
  }
  return finish(part, std::move(mapped));
}

Result<MappedPart<ClipTextConfig>> map_clip_text(const WeightSource& source, std::string_view prefix) {
  Prefixed part(source, prefix);
  MappedPart<ClipTextConfig> mapped;
  ClipTextConfig& config = mapped.config;
  const std::string inner = part.has("text_model.embeddings.token_embedding.weight") ? "text_model." : "";
  config.vocab_size = part.dim(inner + "embeddings.token_embedding.weight", 0);
  config.hidden_size = part.dim(inner + "embeddings.token_embedding.weight", 1);
  config.max_position_embeddings = part.dim(inner + "embeddings.position_embedding.weight", 0);
  config.intermediate_size = part.dim(inner + "encoder.layers.0.mlp.fc1.weight", 0);
  config.num_hidden_layers =
      part.count([&](int n) { return fmt::format("{}encoder.layers.{}.layer_norm1.weight", inner, n); });
  config.num_attention_heads = heads_of(part, config.hidden_size, /*has_attention=*/true);
  config.has_projection = part.has("text_projection.weight");
  config.projection_dim = config.has_projection ? part.dim("text_projection.weight", 0) : config.hidden_size;

  for (const std::string& name : part.names()) {
    // Buffers, and the picture half of a whole CLIP model.
    if (name.ends_with("position_ids") || name == "logit_scale" || name.starts_with("vision_model.") ||
        name.starts_with("visual_projection.")) {
      continue;
    }
    const bool complete = name.starts_with("text_model.") || name.starts_with("text_projection.");
    put(mapped.entries, part, complete ? name : "text_model." + name, {.source = part.prefix() + name});
  }
  return finish(part, std::move(mapped));
}

OriginalNames original_unet_names(const WeightSource& unet) {
  const Prefixed part(unet, "");
  const int levels = part.count([](int n) { return fmt::format("down_blocks.{}.resnets.0.conv1.weight", n); });
  const int layers = part.count([](int n) { return fmt::format("down_blocks.0.resnets.{}.conv1.weight", n); });
  const bool middle_attends = part.has("mid_block.attentions.0.proj_in.weight");
  Modules modules{{"time_embedding.linear_1", {"time_embed.0"}},
                  {"time_embedding.linear_2", {"time_embed.2"}},
                  {"time_embedding.cond_proj", {"time_embed.cond_proj"}},
                  {"add_embedding.linear_1", {"label_emb.0.0"}},
                  {"add_embedding.linear_2", {"label_emb.0.2"}},
                  {"conv_in", {"input_blocks.0.0"}},
                  {"conv_norm_out", {"out.0"}},
                  {"conv_out", {"out.2"}},
                  {"mid_block.resnets.0", {"middle_block.0", kResnet}},
                  {"mid_block.attentions.0", {"middle_block.1"}},
                  {"mid_block.resnets.1", {middle_attends ? "middle_block.2" : "middle_block.1", kResnet}}};
  const int per_level = layers + 1;  // going down: with the downsampler; going up: a layer more
  for (int level = 0; level < levels; ++level) {
    for (int n = 0; n < per_level; ++n) {
      const std::string down = fmt::format("input_blocks.{}", 1 + level * per_level + n);
      const std::string up = fmt::format("output_blocks.{}", level * per_level + n);
      modules[fmt::format("down_blocks.{}.resnets.{}", level, n)] = {down + ".0", kResnet};
      modules[fmt::format("down_blocks.{}.attentions.{}", level, n)] = {down + ".1"};
      modules[fmt::format("up_blocks.{}.resnets.{}", level, n)] = {up + ".0", kResnet};
      modules[fmt::format("up_blocks.{}.attentions.{}", level, n)] = {up + ".1"};
    }
    modules[fmt::format("down_blocks.{}.downsamplers.0", level)] = {
        fmt::format("input_blocks.{}.0", (level + 1) * per_level), kDownsample};
    const bool attends = part.has(fmt::format("up_blocks.{}.attentions.0.proj_in.weight", level));
    modules[fmt::format("up_blocks.{}.upsamplers.0", level)] = {
        fmt::format("output_blocks.{}.{}", (level + 1) * per_level - 1, attends ? 2 : 1)};
  }
  OriginalNames names;
  for (const std::string& name : part.names()) {
    std::string original = mapped_name(name, modules, renamed_back);
    if (!original.empty()) names.emplace(name, std::move(original));
  }
  return names;
}

OriginalNames original_openclip_names(const WeightSource& text_encoder) {
  const Prefixed part(text_encoder, "");
  const int layers =
      part.count([](int n) { return fmt::format("text_model.encoder.layers.{}.layer_norm1.weight", n); });
  Modules modules{{"text_model.final_layer_norm", {"ln_final"}}};
  for (int n = 0; n < layers; ++n) {
    modules[fmt::format("text_model.encoder.layers.{}", n)] = {fmt::format("transformer.resblocks.{}", n),
                                                               kOpenClipLayer};
  }
  OriginalNames names;
  for (const std::string& name : part.names()) {
    std::string original = mapped_name(name, modules, renamed_back);
    const auto at = original.find(".self_attn.");  // query, key and value, which are one tensor there
    if (at != std::string::npos)
      original = original.substr(0, at) + ".attn.in_proj" + original.substr(original.rfind('.'));
    if (!original.empty()) names.emplace(name, std::move(original));
  }
  return names;
}

}  // namespace darkroom::engine
