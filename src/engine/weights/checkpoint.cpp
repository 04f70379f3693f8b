#include "engine/weights/checkpoint.h"

#include <algorithm>
#include <system_error>
#include <utility>
#include <vector>

#include "engine/weights/config_json.h"
#include "engine/weights/json_file.h"
#include "engine/weights/key_map_sdxl.h"
#include "engine/weights/key_map_upscaler.h"
#include "engine/weights/weight_file.h"

namespace darkroom::engine {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kUnetStem = "diffusion_pytorch_model";
constexpr std::string_view kTextStem = "model";

// What diffusers gives a single-file SDXL checkpoint.
nlohmann::json default_scheduler() {
  return {{"_class_name", "EulerDiscreteScheduler"},
          {"num_train_timesteps", 1000},
          {"beta_start", 0.00085},
          {"beta_end", 0.012},
          {"beta_schedule", "scaled_linear"},
          {"prediction_type", "epsilon"},
          {"interpolation_type", "linear"},
          {"timestep_spacing", "leading"},
          {"steps_offset", 1},
          {"rescale_betas_zero_snr", false}};
}

template <class Config>
Result<ModelPart<Config>> view(const WeightSourcePtr& source, Result<MappedPart<Config>> mapped) {
  if (!mapped) return tl::unexpected(std::move(mapped.error()));
  auto weights = KeyMappedSource::make(source, std::move(mapped->entries));
  if (!weights) return tl::unexpected(std::move(weights.error()));
  return ModelPart<Config>{std::move(mapped->config), *std::move(weights)};
}

// Moves a part out of its result into `target`; false, with the error kept, if there is none.
template <class Config, class Target>
bool accept(Result<ModelPart<Config>> part, Target& target, std::optional<Error>& error) {
  if (!part) {
    error = std::move(part.error());
    return false;
  }
  target = *std::move(part);
  return true;
}

tl::unexpected<Error> refused(const fs::path& path, const Classification& what) {
  std::string is = what.kind == FileKind::unknown ? "not a model that Darkroom knows" : "";
  if (is.empty()) {
    const std::string family = what.family == Family::unknown ? "" : fmt::format("{} ", to_string(what.family));
    switch (what.kind) {
      case FileKind::checkpoint:
        is = fmt::format("{}checkpoint", family.empty() ? "an unknown " : "a " + family);
        break;
      case FileKind::lora:
        is = "a LoRA";
        break;
      case FileKind::controlnet:
        is = "a ControlNet";
        break;
      case FileKind::vae:
        is = "a VAE";
        break;
      case FileKind::embedding:
        is = "a textual inversion embedding";
        break;
      case FileKind::upscaler:
        is = "an upscaler";
        break;
      case FileKind::unet:
        is = fmt::format("a {}UNet without text encoders", family);
        break;
      case FileKind::text_encoder:
        is = "a text encoder";
        break;
      case FileKind::unknown:
        break;
    }
  }
  return fail(ErrorCode::unsupported, "{} is {}; Darkroom runs SDXL checkpoints", path.string(), is);
}

// addition_time_embed_dim does not show in any shape: the label's width is the pooled text's plus that of six numbers
// (the refiner: five).
Error* set_time_dim(UnetConfig& unet, std::int64_t pooled, bool is_refiner, const fs::path& path,
                    std::optional<Error>& error) {
  const std::int64_t numbers = is_refiner ? 5 : 6;
  const std::int64_t rest = unet.projection_class_embeddings_input_dim - pooled;
  if (rest <= 0 || rest % numbers != 0) {
    error = Error{ErrorCode::corrupt_data,
                  fmt::format("{}: label_emb takes {} values; the pooled text has {}, the rest does not split in {}",
                              path.string(), unet.projection_class_embeddings_input_dim, pooled, numbers)};
    return &*error;
  }
  unet.addition_time_embed_dim = rest / numbers;
  return nullptr;
}

// v-prediction and its kin leave markers in a single file, as empty tensors or as metadata.
void read_markers(const WeightFile& file, Checkpoint& checkpoint) {
  ModelInfo& info = checkpoint.info;
  nlohmann::json scheduler = default_scheduler();
  const auto metadata = file.metadata.find("modelspec.prediction_type");
  if (metadata != file.metadata.end() && metadata->second == "epsilon") info.prediction_type = PredictionType::epsilon;
  if ((metadata != file.metadata.end() && (metadata->second == "v" || metadata->second == "v_prediction")) ||
      file.weights->contains("v_pred") || file.weights->contains("edm_vpred.sigma_max")) {
    info.prediction_type = PredictionType::v_prediction;
    scheduler["prediction_type"] = "v_prediction";
  }
  if (file.weights->contains("ztsnr")) {
    info.rescale_betas_zero_snr = true;
    scheduler["rescale_betas_zero_snr"] = true;
    // The last timestep is where zero SNR is; leading spacing never visits it (Lin et al. 2024, section 3.3).
    scheduler["timestep_spacing"] = "trailing";
  }
  if (const auto sigma_max = file.weights->find("edm_vpred.sigma_max");
      sigma_max && sigma_max->elements() == 1 && is_floating(sigma_max->dtype)) {
    float value = 0.0F;
    to_float(sigma_max->dtype, sigma_max->data, &value, 1);
    info.edm_sigma_max = value;
  }
  checkpoint.scheduler_config = scheduler.dump();
}

Result<Checkpoint> open_single_file(const fs::path& path) {
  auto file = open_weight_file(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const WeightSourcePtr source = file->weights;
  const Classification what = classify(*source);
  if (what.kind != FileKind::checkpoint || what.family != Family::sdxl) return refused(path, what);
  for (const std::string& name : source->names()) {
    if (name == "scaled_fp8" || name.ends_with(".scale_weight")) {
      return fail(ErrorCode::unsupported, "{}: scaled fp8 weights ('{}') are not implemented", path.string(), name);
    }
  }

  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = file->format;
  checkpoint.bytes = file->bytes;
  const bool is_refiner = what.model_kind == ModelKind::refiner;
  checkpoint.info.kind = *what.model_kind;
  checkpoint.info.requires_aesthetics_score = is_refiner;
  checkpoint.info.force_zeros_for_empty_prompt = !is_refiner;
  read_markers(*file, checkpoint);

  std::optional<Error> error;
  bool good = accept(view(source, map_original_unet(*source, "model.diffusion_model.")), checkpoint.unet, error);
  if (good && !is_refiner) {
    good = accept(view(source, map_clip_text(*source, "conditioner.embedders.0.transformer.")), checkpoint.text_encoder,
                  error);
  }
  if (good) {
    good = accept(
        view(source, map_openclip_text(*source, fmt::format("conditioner.embedders.{}.model.", is_refiner ? 0 : 1))),
        checkpoint.text_encoder_2, error);
  }
  if (good && source->contains("first_stage_model.decoder.conv_in.weight")) {
    good = accept(view(source, map_original_vae(*source, "first_stage_model.")), checkpoint.vae, error);
  }
  if (good)
    set_time_dim(checkpoint.unet.config, checkpoint.text_encoder_2.config.projection_dim, is_refiner, path, error);
  if (error) return tl::unexpected(*std::move(error));
  return checkpoint;
}

// ---- diffusers folders ----

template <class Config, class Parse>
Result<ModelPart<Config>> open_part(const fs::path& folder, std::string_view stem, std::string_view variant,
                                    Parse parse, std::uint64_t* bytes) {
  auto json = read_json_file(folder / "config.json");
  if (!json) return tl::unexpected(std::move(json.error()));
  Result<Config> config = parse(*json, (folder / "config.json").string());
  if (!config) return tl::unexpected(std::move(config.error()));
  auto file = open_weight_folder(folder, stem, variant);
  if (!file) return tl::unexpected(std::move(file.error()));
  if (bytes != nullptr) *bytes += file->bytes;

  const WeightSourcePtr source = file->weights;
  if constexpr (std::is_same_v<Config, VaeConfig>) {
    auto part = view(source, map_diffusers_vae(*source));
    if (part) part->config = *std::move(config);
    return part;
  } else if constexpr (std::is_same_v<Config, ClipTextConfig>) {
    auto part = view(source, map_clip_text(*source, ""));
    if (part) {
      config->has_projection = part->config.has_projection;
      part->config = *std::move(config);
    }
    return part;
  } else {
    return ModelPart<Config>{*std::move(config), source};
  }
}

bool names_a_class(const nlohmann::json& index, const char* part) {
  const auto found = index.find(part);
  return found != index.end() && found->is_array() && found->size() == 2 && (*found)[1].is_string();
}

std::optional<fs::path> tokenizer_folder(const fs::path& folder) {
  const bool complete = is_file(folder / "vocab.json") && is_file(folder / "merges.txt");
  return complete ? std::optional(folder) : std::nullopt;
}

Result<void> read_scheduler(const fs::path& path, Checkpoint& checkpoint) {
  auto json = read_json_file(path);
  if (!json) return tl::unexpected(std::move(json.error()));
  checkpoint.scheduler_config = json->dump();
  ConfigReader reader(*json, path.string());
  const std::string type = reader.string("prediction_type", "epsilon");
  if (type == "epsilon") {
    checkpoint.info.prediction_type = PredictionType::epsilon;
  } else if (type == "v_prediction") {
    checkpoint.info.prediction_type = PredictionType::v_prediction;
  } else if (type == "sample") {
    checkpoint.info.prediction_type = PredictionType::sample;
  } else {
    reader.only("prediction_type", {"epsilon", "v_prediction", "sample"});
  }
  checkpoint.info.rescale_betas_zero_snr = reader.boolean("rescale_betas_zero_snr", false);
  if (reader.error()) return tl::unexpected(*reader.error());
  return {};
}

Result<Checkpoint> open_folder(const fs::path& path, std::string_view variant) {
  auto summary = inspect(path);
  if (!summary) return tl::unexpected(std::move(summary.error()));
  if (summary->what.kind != FileKind::checkpoint || summary->what.family != Family::sdxl)
    return refused(path, summary->what);
  auto index = read_json_file(path / "model_index.json");
  if (!index) return tl::unexpected(std::move(index.error()));

  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.format = FileFormat::diffusers_folder;
  ConfigReader reader(*index, (path / "model_index.json").string());
  checkpoint.info.requires_aesthetics_score = reader.boolean("requires_aesthetics_score", false);
  checkpoint.info.force_zeros_for_empty_prompt = reader.boolean("force_zeros_for_empty_prompt", true);
  if (reader.error()) return tl::unexpected(*reader.error());

  const bool has_first_encoder = names_a_class(*index, "text_encoder");
  std::vector<std::string> missing;
  for (const char* part : {"unet", "vae", "text_encoder", "text_encoder_2"}) {
    if (part == std::string_view("text_encoder") && !has_first_encoder) continue;
    if (!is_file(path / part / "config.json")) missing.push_back(fmt::format("{}/config.json", part));
  }
  if (!is_file(path / "scheduler" / "scheduler_config.json")) missing.emplace_back("scheduler/scheduler_config.json");
  if (!missing.empty()) {
    return fail(ErrorCode::not_found, "{} is not a complete SDXL model: {} {} missing", path.string(),
                fmt::join(missing, ", "), missing.size() == 1 ? "is" : "are");
  }

  std::optional<Error> error;
  std::uint64_t* bytes = &checkpoint.bytes;
  bool good =
      accept(open_part<UnetConfig>(path / "unet", kUnetStem, variant, parse_unet_config, bytes), checkpoint.unet,
             error) &&
      accept(open_part<VaeConfig>(path / "vae", kUnetStem, variant, parse_vae_config, bytes), checkpoint.vae, error) &&
      accept(open_part<ClipTextConfig>(path / "text_encoder_2", kTextStem, variant, parse_clip_text_config, bytes),
             checkpoint.text_encoder_2, error);
  if (good && has_first_encoder) {
    accept(open_part<ClipTextConfig>(path / "text_encoder", kTextStem, variant, parse_clip_text_config, bytes),
           checkpoint.text_encoder, error);
  }
  if (error) return tl::unexpected(*std::move(error));
  if (!checkpoint.text_encoder_2.config.has_projection) {
    return fail(ErrorCode::corrupt_data, "{}: text_encoder_2 has no 'text_projection.weight'", path.string());
  }
  if (auto scheduler = read_scheduler(path / "scheduler" / "scheduler_config.json", checkpoint); !scheduler) {
    return tl::unexpected(std::move(scheduler.error()));
  }
  checkpoint.tokenizer = tokenizer_folder(path / "tokenizer");
  checkpoint.tokenizer_2 = tokenizer_folder(path / "tokenizer_2");
  const bool is_refiner = checkpoint.info.requires_aesthetics_score || !has_first_encoder;
  checkpoint.info.kind = is_refiner                                ? ModelKind::refiner
                         : checkpoint.unet.config.in_channels == 9 ? ModelKind::inpaint
                                                                   : ModelKind::base;
  return checkpoint;
}

// Kinds of pictures that a Union ControlNet knows, as its weights show; 0 for another ControlNet.
std::int64_t control_types(const WeightSource& source) {
  const auto info = source.info("task_embedding");
  return info && info->shape.rank() == 2 ? info->shape[0] : 0;
}

// A ControlNet's config out of the shapes of a file with diffusers' names.
Result<ControlNetConfig> infer_controlnet(const WeightSource& source) {
  const auto dim = [&](const std::string& name, int axis) -> std::int64_t {
    const auto info = source.info(name);
    return info && axis < info->shape.rank() ? info->shape[axis] : 0;
  };
  const auto count = [&](auto name) {
    std::int64_t n = 0;
    while (n < 64 && source.contains(name(n))) ++n;
    return n;
  };
  ControlNetConfig config;
  UnetConfig& unet = config.unet;
  const std::int64_t levels =
      count([](std::int64_t n) { return fmt::format("down_blocks.{}.resnets.0.conv2.weight", n); });
  if (levels == 0) return fail(ErrorCode::corrupt_data, "{}: no 'down_blocks'", source.describe());
  unet.in_channels = dim("conv_in.weight", 1);
  unet.layers_per_block = count([](std::int64_t n) { return fmt::format("down_blocks.0.resnets.{}.conv2.weight", n); });
  unet.projection_class_embeddings_input_dim = dim("add_embedding.linear_1.weight", 1);
  unet.block_out_channels.clear();
  unet.down_block_has_attention.clear();
  unet.transformer_layers_per_block.clear();
  unet.attention_head_dim.clear();
  for (std::int64_t level = 0; level < levels; ++level) {
    const std::int64_t width = dim(fmt::format("down_blocks.{}.resnets.0.conv2.weight", level), 0);
    const std::string attention = fmt::format("down_blocks.{}.attentions.0.", level);
    const std::int64_t depth =
        count([&](std::int64_t n) { return fmt::format("{}transformer_blocks.{}.norm1.weight", attention, n); });
    unet.block_out_channels.push_back(width);
    unet.down_block_has_attention.push_back(depth > 0);
    unet.transformer_layers_per_block.push_back(std::max<std::int64_t>(depth, 1));
    unet.attention_head_dim.push_back(std::max<std::int64_t>(width / 64, 1));
    if (depth > 0) {
      unet.cross_attention_dim = dim(attention + "transformer_blocks.0.attn2.to_k.weight", 1);
      unet.use_linear_projection = source.info(attention + "proj_in.weight").value_or(TensorInfo{}).shape.rank() == 2;
    }
  }
  const std::int64_t middle =
      count([](std::int64_t n) { return fmt::format("mid_block.attentions.0.transformer_blocks.{}.norm1.weight", n); });
  unet.mid_block_has_attention = middle > 0;
  if (middle > 0 && !unet.down_block_has_attention.back()) unet.transformer_layers_per_block.back() = middle;
  if (!set_time_id_channels(unet)) {
    return fail(ErrorCode::unsupported,
                "{}: 'add_embedding' takes {} values; without a config.json that is no SDXL ControlNet",
                source.describe(), unet.projection_class_embeddings_input_dim);
  }
  config.conditioning_channels = dim("controlnet_cond_embedding.conv_in.weight", 1);
  config.conditioning_embedding_out_channels = {dim("controlnet_cond_embedding.conv_in.weight", 0)};
  const std::int64_t blocks =
      count([](std::int64_t n) { return fmt::format("controlnet_cond_embedding.blocks.{}.weight", n); });
  for (std::int64_t n = 1; n < blocks; n += 2) {
    config.conditioning_embedding_out_channels.push_back(
        dim(fmt::format("controlnet_cond_embedding.blocks.{}.weight", n), 0));
  }
  return config;
}

}  // namespace

Result<Checkpoint> open_checkpoint(const fs::path& path, std::string_view variant) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? open_folder(path, variant) : open_single_file(path);
}

Result<ModelPart<VaeConfig>> open_vae(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    // The folder itself, or the whole model's.
    const bool whole = is_file(path / "vae" / "config.json");
    return open_part<VaeConfig>(whole ? path / "vae" : path, kUnetStem, {}, parse_vae_config, nullptr);
  }
  auto file = open_weight_file(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const WeightSourcePtr source = file->weights;
  if (source->contains("encoder.down_blocks.0.resnets.0.conv2.weight")) return view(source, map_diffusers_vae(*source));
  if (source->contains("encoder.down.0.block.0.conv2.weight")) return view(source, map_original_vae(*source, ""));
  if (source->contains("first_stage_model.encoder.down.0.block.0.conv2.weight")) {
    return view(source, map_original_vae(*source, "first_stage_model."));
  }
  return fail(ErrorCode::unsupported, "{} holds no VAE", path.string());
}

Result<ModelPart<ControlNetConfig>> open_controlnet(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    auto part = open_part<ControlNetConfig>(path, kUnetStem, {}, parse_controlnet_config, nullptr);
    if (part) part->config.num_control_type = control_types(*part->weights);
    return part;
  }
  auto file = open_weight_file(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const Classification what = classify(*file->weights);
  if (what.kind != FileKind::controlnet) {
    return fail(ErrorCode::unsupported, "{} is not a ControlNet: {}", path.string(), to_string(what.kind));
  }
  if (what.family != Family::sdxl)
    return fail(ErrorCode::unsupported, "{} is not a ControlNet for SDXL", path.string());
  for (const char* prefix : {"control_model.", ""}) {
    if (file->weights->contains(fmt::format("{}input_hint_block.0.weight", prefix))) {
      return view(file->weights, map_original_controlnet(*file->weights, prefix));
    }
  }
  if (!file->weights->contains("controlnet_cond_embedding.conv_in.weight")) {
    return fail(ErrorCode::unsupported, "{}: a ControlNet that embeds no picture is not implemented", path.string());
  }
  auto config = infer_controlnet(*file->weights);
  if (!config) return tl::unexpected(std::move(config.error()));
  config->num_control_type = control_types(*file->weights);
  return ModelPart<ControlNetConfig>{*std::move(config), file->weights};
}

Result<ModelPart<UpscalerConfig>> open_upscaler(const fs::path& path) {
  auto file = open_weight_file(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const Classification what = classify(*file->weights);
  if (what.kind != FileKind::upscaler) {
    return fail(ErrorCode::unsupported, "{} is not an upscaler: {}", path.string(), to_string(what.kind));
  }
  return view(WeightSourcePtr(file->weights), map_upscaler(*file->weights));
}

}  // namespace darkroom::engine
