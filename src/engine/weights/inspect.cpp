#include "engine/weights/inspect.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <vector>

#include "engine/weights/adapter_file.h"
#include "engine/weights/json_file.h"
#include "engine/weights/key_map_upscaler.h"
#include "engine/weights/lora_family.h"
#include "engine/weights/weight_file.h"

namespace darkroom::engine {

namespace fs = std::filesystem;

namespace {

class Names {
 public:
  explicit Names(const WeightSource& source) : names_(source.names()) {}

  bool has(std::string_view name) const { return std::ranges::binary_search(names_, name, std::less<>()); }
  bool has_prefix(std::string_view prefix) const {
    const auto at = std::ranges::lower_bound(names_, prefix, std::less<>());
    return at != names_.end() && at->starts_with(prefix);
  }
  bool has_part(std::string_view part) const {
    return std::ranges::any_of(names_, [&](const std::string& name) { return name.find(part) != std::string::npos; });
  }

 private:
  std::vector<std::string> names_;
};

std::int64_t dim(const WeightSource& source, std::string_view name, int axis) {
  const auto info = source.info(name);
  return info && axis < info->shape.rank() ? info->shape[axis] : 0;
}

// By the width of the text that cross attention reads: CLIP-L, OpenCLIP-H, both, OpenCLIP-G alone.
Family family_of_width(std::int64_t cross_attention_dim) {
  switch (cross_attention_dim) {
    case 768:
      return Family::sd1;
    case 1024:
      return Family::sd2;
    case 2048:
    case 1280:
      return Family::sdxl;
    default:
      return Family::unknown;
  }
}

ModelKind model_kind(bool is_refiner, std::int64_t in_channels) {
  if (is_refiner) return ModelKind::refiner;
  return in_channels == 9 ? ModelKind::inpaint : ModelKind::base;
}

// A checkpoint or UNet in the original layout.
std::optional<Classification> classify_original(const WeightSource& source, const Names& names) {
  for (const std::string prefix : {"model.diffusion_model.", ""}) {
    const FileKind kind = prefix.empty() ? FileKind::unet : FileKind::checkpoint;
    if (names.has_prefix(prefix + "joint_blocks.")) return Classification{kind, Family::sd3, {}};
    if (names.has_prefix(prefix + "double_blocks.")) return Classification{kind, Family::flux, {}};
    if (!names.has_prefix(prefix + "input_blocks.")) continue;
    if (names.has_prefix("control_model.") || names.has_prefix("input_hint_block.")) continue;
    if (names.has_part("time_stack")) return Classification{kind, Family::svd, {}};
    if (names.has_prefix("cond_stage_model.transformer.")) return Classification{kind, Family::sd1, {}};
    if (names.has_prefix("cond_stage_model.model.")) return Classification{kind, Family::sd2, {}};
    if (names.has("edm_mean") && names.has("edm_std")) return Classification{kind, Family::playground_edm, {}};

    const std::int64_t in_channels = dim(source, prefix + "input_blocks.0.0.weight", 1);
    // Two text encoders, the first of them CLIP-L, are the base; the refiner's only one is Open CLIP.
    const bool is_refiner = names.has_prefix("conditioner.embedders.0.model.");
    if (names.has_prefix("conditioner.embedders.")) {
      return Classification{kind, Family::sdxl, model_kind(is_refiner, in_channels)};
    }
    // Without text encoders the width of cross attention tells.
    for (int block = 1; block < 12; ++block) {
      const auto width =
          dim(source, fmt::format("{}input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight", prefix, block), 1);
      if (width == 0) continue;
      const Family family =
          names.has(prefix + "label_emb.0.0.weight") && width != 1024 ? Family::sdxl : family_of_width(width);
      std::optional<ModelKind> which;
      if (family == Family::sdxl) which = model_kind(width == 1280, in_channels);
      return Classification{FileKind::unet, family, which};
    }
    return Classification{FileKind::unet, Family::unknown, {}};
  }
  if (names.has_prefix("model.diffusion_model.")) return Classification{FileKind::checkpoint, Family::unknown, {}};
  return std::nullopt;
}

bool is_lora(const Names& names) {
  if (names.has_prefix("lora_unet_") || names.has_prefix("lora_te")) return true;
  for (const std::string_view part :
       {".lora_up.", ".lora_down.", ".lora_A.", ".lora_B.", ".lora.up.", ".lora.down.", "_lora.up.", "_lora.down.",
        ".hada_w1_", ".lokr_w1", ".lokr_w2", ".lora_linear_layer."}) {
    if (names.has_part(part)) return true;
  }
  return false;
}

Classification classify_alone(const WeightSource& source, const Names& names) {
  if (names.has_prefix("control_model.") || names.has_prefix("input_hint_block.") ||
      names.has_prefix("controlnet_cond_embedding.") || names.has_prefix("controlnet_down_blocks.")) {
    const bool sdxl = names.has_prefix("add_embedding.") || names.has_part("label_emb.");
    return {FileKind::controlnet, sdxl ? Family::sdxl : Family::unknown, {}};
  }
  if (names.has("down_blocks.0.resnets.0.norm1.weight") && names.has("conv_in.weight")) {
    const bool sdxl = names.has("add_embedding.linear_1.weight");
    return {FileKind::unet, sdxl ? Family::sdxl : Family::unknown, {}};
  }
  if (names.has("decoder.conv_in.weight") || names.has("first_stage_model.decoder.conv_in.weight")) {
    return {FileKind::vae, Family::unknown, {}};
  }
  if (is_upscaler(source)) return {FileKind::upscaler, Family::unknown, {}};
  if (names.has("clip_g") || names.has("clip_l")) return {FileKind::embedding, Family::sdxl, {}};
  if (names.has("emb_params") || names.has_prefix("string_to_param")) {
    const std::int64_t width = dim(source, "emb_params", 1);
    return {FileKind::embedding, width == 0 ? Family::unknown : family_of_width(width), {}};
  }
  if (names.has_part("text_model.embeddings.") || names.has("embeddings.token_embedding.weight") ||
      names.has_part("transformer.resblocks.")) {
    return {FileKind::text_encoder, Family::unknown, {}};
  }
  return {};
}

void count_types(ModelSummary& summary, const WeightSource& source) {
  for (const std::string& name : source.names()) {
    const auto info = source.info(name);
    summary.dtypes[info->dtype] += static_cast<std::uint64_t>(info->shape.elements()) * size_of(info->dtype);
  }
}

ModelSummary summary_of(WeightFile file) {
  ModelSummary summary;
  summary.what = classify(*file.weights);
  summary.format = file.format;
  summary.bytes = file.bytes;
  summary.metadata = std::move(file.metadata);
  count_types(summary, *file.weights);
  return summary;
}

// What the class that a folder names stands for.
Classification classify_class(const std::string& name) {
  const auto begins = [&](std::string_view prefix) { return name.starts_with(prefix); };
  if (begins("StableDiffusionXL")) return {FileKind::checkpoint, Family::sdxl, ModelKind::base};
  if (begins("StableDiffusion3")) return {FileKind::checkpoint, Family::sd3, {}};
  if (begins("StableVideoDiffusion")) return {FileKind::checkpoint, Family::svd, {}};
  if (begins("StableDiffusion") || begins("LatentConsistencyModel")) return {FileKind::checkpoint, Family::sd1, {}};
  if (begins("Flux")) return {FileKind::checkpoint, Family::flux, {}};
  if (begins("ControlNet")) return {FileKind::controlnet, Family::unknown, {}};
  if (begins("AutoencoderKL")) return {FileKind::vae, Family::unknown, {}};
  if (begins("UNet2DCondition")) return {FileKind::unet, Family::unknown, {}};
  return {};
}

// A StableDiffusionPipeline's text encoder tells version 1 from 2.
Family older_family(const fs::path& folder) {
  const auto config = read_json_file(folder / "unet" / "config.json");
  if (!config) return Family::sd1;
  const auto width = config->find("cross_attention_dim");
  return width != config->end() && width->is_number_integer() && *width == 1024 ? Family::sd2 : Family::sd1;
}

Result<ModelSummary> inspect_folder(const fs::path& folder) {
  ModelSummary summary;
  summary.format = FileFormat::diffusers_folder;
  const bool whole = is_file(folder / "model_index.json");
  auto json = read_json_file(folder / (whole ? "model_index.json" : "config.json"));
  if (!json) {
    return fail(ErrorCode::not_found, "{} holds no model: no model_index.json, config.json or adapter_config.json",
                folder.string());
  }
  ConfigReader reader(*json, folder.string());
  summary.what = classify_class(reader.string("_class_name", ""));
  if (!whole) {
    auto weights = open_weight_folder(folder, "diffusion_pytorch_model");
    if (!weights) return tl::unexpected(std::move(weights.error()));
    const Classification found = classify(*weights->weights);
    if (summary.what.kind == FileKind::unknown) summary.what.kind = found.kind;
    summary.what.family = found.family;
    summary.bytes = weights->bytes;
    count_types(summary, *weights->weights);
    return summary;
  }
  if (summary.what.family == Family::sd1) summary.what.family = older_family(folder);
  const bool is_refiner = reader.boolean("requires_aesthetics_score", false);
  for (const auto& [part, stem] : {std::pair("unet", "diffusion_pytorch_model"),
                                   {"vae", "diffusion_pytorch_model"},
                                   {"text_encoder", "model"},
                                   {"text_encoder_2", "model"}}) {
    auto weights = open_weight_folder(folder / part, stem);
    if (!weights) continue;  // open_checkpoint() says what is missing
    summary.bytes += weights->bytes;
    count_types(summary, *weights->weights);
    if (std::string_view(part) == "unet" && summary.what.family == Family::sdxl) {
      summary.what.model_kind = model_kind(is_refiner, dim(*weights->weights, "conv_in.weight", 1));
    }
  }
  return summary;
}

}  // namespace

std::string_view to_string(FileKind kind) {
  switch (kind) {
    case FileKind::checkpoint:
      return "checkpoint";
    case FileKind::lora:
      return "lora";
    case FileKind::controlnet:
      return "controlnet";
    case FileKind::vae:
      return "vae";
    case FileKind::embedding:
      return "embedding";
    case FileKind::upscaler:
      return "upscaler";
    case FileKind::unet:
      return "unet";
    case FileKind::text_encoder:
      return "text_encoder";
    case FileKind::unknown:
      break;
  }
  return "unknown";
}

std::string_view to_string(FileFormat format) {
  switch (format) {
    case FileFormat::safetensors:
      return "safetensors";
    case FileFormat::pickle:
      return "pickle";
    case FileFormat::diffusers_folder:
      return "diffusers_folder";
    case FileFormat::peft_folder:
      return "peft_folder";
  }
  return "unknown";
}

std::string_view to_string(Family family) {
  switch (family) {
    case Family::sdxl:
      return "Stable Diffusion XL";
    case Family::sd1:
      return "Stable Diffusion 1.x";
    case Family::sd2:
      return "Stable Diffusion 2.x";
    case Family::sd3:
      return "Stable Diffusion 3";
    case Family::flux:
      return "Flux";
    case Family::svd:
      return "Stable Video Diffusion";
    case Family::playground_edm:
      return "Playground 2.5";
    case Family::unknown:
      break;
  }
  return "unknown";
}

Classification classify(const WeightSource& source) {
  const Names names(source);
  if (is_lora(names)) return {FileKind::lora, family_of_lora(source), {}};
  if (const auto original = classify_original(source, names)) return *original;
  return classify_alone(source, names);
}

bool is_model_folder(const fs::path& path) {
  return is_file(path / "model_index.json") || is_file(path / "config.json") || is_adapter_folder(path);
}

Result<ModelSummary> inspect(const fs::path& path) {
  std::error_code ignored;
  if (is_adapter_folder(path)) {
    auto adapter = open_adapter(path);
    if (!adapter) return tl::unexpected(std::move(adapter.error()));
    return summary_of(std::move(adapter->file));
  }
  if (fs::is_directory(path, ignored)) return inspect_folder(path);
  auto file = open_weight_file(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  return summary_of(*std::move(file));
}

}  // namespace darkroom::engine
