#include "service/api/sdapi_request.h"

#include <algorithm>
#include <array>

#include "base/random.h"
#include "base/text.h"
#include "service/api/batches.h"
#include "service/api/picture_input.h"
#include "service/api/prompt_networks.h"
#include "service/api/sdapi_inside.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr int kDefaultSteps = 50;
constexpr float kDefaultGuidance = 7.0F;
constexpr int kMostPictures = 100;  // of one request
constexpr int kMostIterations = 100;
constexpr int kPreviews = 10;     // of one job, for progress
constexpr int kSdxlClipStop = 2;  // compat(webui): counts from the last layer, and SDXL's penultimate one is 2

// Keys that are long or secret, wherever they stand.
bool is_left_out(std::string_view key) {
  static constexpr std::array kKeys = {"init_images", "mask",  "image",         "input_image", "imagelist",
                                       "auth",        "url",   "authorization", "api_key",     "apikey",
                                       "password",    "token", "init_img"};
  const std::string lower = to_lower(key);
  return std::ranges::find(kKeys, lower) != kKeys.end();
}

// The body as `parameters` repeats it.
json echo_of(const json& value) {
  constexpr std::size_t kLongText = 20'000;  // longer than prompts are: a picture under some other key
  if (value.is_object()) {
    json out = json::object();
    for (const auto& [key, inner] : value.items()) {
      if (!is_left_out(key)) out[key] = echo_of(inner);
    }
    return out;
  }
  if (value.is_array()) {
    json out = json::array();
    for (const json& inner : value) out.push_back(echo_of(inner));
    return out;
  }
  const bool is_picture = value.is_string() && (value.get_ref<const std::string&>().size() > kLongText ||
                                                value.get_ref<const std::string&>().starts_with("data:"));
  return is_picture ? json(nullptr) : value;
}

void read_words(SdapiDraft& draft, const TolerantReader& in) {
  GenerationSpec& spec = draft.spec;
  const Limits& limits = draft.context.limits;
  std::string prompt;
  std::string negative;
  in.text("prompt", prompt);
  in.text("negative_prompt", negative);
  for (const auto& [key, text] : {std::pair("prompt", &prompt), {"negative_prompt", &negative}}) {
    if (std::string trouble = max_bytes(limits.prompt_bytes)(*text); !trouble.empty()) {
      in.complain(key, std::move(trouble));
      return;
    }
  }
  SplitPrompt split = split_networks(prompt);
  SplitPrompt split_negative = split_networks(negative);
  spec.loras = loras_of(split.networks, draft.context.models, limits.max_lora_weight, in.pointer_of("prompt"),
                        draft.complaints, draft.warnings);
  if (spec.loras.size() > static_cast<std::size_t>(limits.max_loras)) {
    in.complain("prompt", fmt::format("has {} LoRAs, at most {} are allowed", spec.loras.size(), limits.max_loras));
  }
  if (!split_negative.networks.empty()) draft.warn("negative_prompt: networks act in the prompt only; left out");
  spec.prompt = std::move(split.words);
  spec.negative_prompt = std::move(split_negative.words);
  spec.prompt_syntax = PromptSyntax::webui;
  spec.embeddings = embeddings_in(spec.prompt, *spec.negative_prompt, draft.context.models);
  const bool is_empty = !not_empty()(spec.prompt).empty();
  if (is_empty && draft.kind == SdapiKind::txt2img) in.complain("prompt", "must not be empty");
  for (const json* style : in.list("styles")) {
    const bool named = style->is_string() && !style->get_ref<const std::string&>().empty();
    if (named) draft.warn(fmt::format("styles: there is no style \"{}\"", style->get<std::string>().substr(0, 60)));
  }
}

void read_seeds(SdapiDraft& draft, const TolerantReader& in) {
  draft.spec.seed = random_u64() >> 32U;  // compat(webui): 32 bits, which every client can hold
  in.seed("seed", draft.spec.seed);
  Variation variation{.seed = random_u64() >> 32U};
  in.number("subseed_strength", variation.strength, 0.0F, 1.0F);
  in.seed("subseed", variation.seed);
  if (variation.strength > 0.0F) draft.spec.variation = variation;
  for (const char* key : {"seed_resize_from_w", "seed_resize_from_h"}) {
    int from = 0;
    if (in.whole(key, from, -1, 100'000) && from > 0) draft.warn(fmt::format("{} is not done", key));
  }
}

void read_count(SdapiDraft& draft, const TolerantReader& in) {
  int each = 1;
  int times = 1;
  const bool has_each = in.whole("batch_size", each, 1, kMostPictures);
  const bool has_times = in.whole("n_iter", times, 1, kMostIterations);
  draft.pictures = each * times;
  if ((has_each || has_times) && draft.pictures > kMostPictures) {
    in.complain("n_iter",
                fmt::format("times batch_size is {} pictures, at most {} are allowed", draft.pictures, kMostPictures));
  }
}

void read_size(SdapiDraft& draft, const TolerantReader& in) {
  const Limits& limits = draft.context.limits;
  for (const auto& [key, side] : {std::pair("width", &draft.spec.width), {"height", &draft.spec.height}}) {
    if (!in.whole(key, *side, limits.min_side, limits.max_side)) continue;
    if (std::string trouble = multiple_of(limits.side_multiple)(*side); !trouble.empty()) {
      in.complain(key, std::move(trouble));
    }
  }
}

void set_clip_stop(SdapiDraft& draft, const TolerantReader& in, std::string_view key, int& stop) {
  constexpr int kLayers = 12;
  if (in.whole(key, stop, 0, kLayers)) draft.spec.clip_skip = std::max(0, stop - kSdxlClipStop);
}

// T20: the keys of override_settings that have a meaning; the others are webui's own affairs.
void read_settings(SdapiDraft& draft, const TolerantReader& in) {
  const SdapiOptions& options = draft.context.options;
  const TolerantReader settings = in.object("override_settings");
  std::string checkpoint;
  if (settings.text("sd_model_checkpoint", checkpoint) && !is_none(checkpoint)) {
    draft.spec.model = find_model(draft, settings, "sd_model_checkpoint", ModelRole::checkpoint, checkpoint);
  } else if (auto found = default_checkpoint(draft.context)) {
    draft.spec.model = std::move(*found);
  } else {
    in.complain("override_settings/sd_model_checkpoint", found.error().message);
    ++draft.not_found;
  }

  std::string vae = options.vae;
  settings.text("sd_vae", vae);
  if (!is_none(vae) && to_lower(vae) != "automatic") {
    draft.spec.vae = find_model(draft, settings, "sd_vae", ModelRole::vae, vae);
  }
  for (const json* module : settings.list("forge_additional_modules")) {
    if (!module->is_string() || is_none(module->get_ref<const std::string&>())) continue;
    const auto& name = module->get_ref<const std::string&>();
    if (const auto found = draft.context.models.find(ModelRole::vae, name)) {
      draft.spec.vae = (*found)->file;
    } else {
      draft.warn(fmt::format("forge_additional_modules: there is no VAE \"{}\"; left out", name.substr(0, 60)));
    }
  }

  int stop = options.clip_stop_at_last_layers;
  draft.spec.clip_skip = std::max(0, stop - kSdxlClipStop);
  set_clip_stop(draft, in, "clip_skip", stop);
  set_clip_stop(draft, settings, "CLIP_stop_at_last_layers", stop);

  int noise_delta = 0;
  if (settings.whole("eta_noise_seed_delta", noise_delta, -2'000'000'000, 2'000'000'000) && noise_delta != 0) {
    draft.warn("eta_noise_seed_delta is not done: the noise depends on the seed alone");
  }
  bool color_correction = false;
  if (settings.flag("img2img_color_correction", color_correction) && color_correction) {
    draft.warn("img2img_color_correction is not done");
  }
}

// T21.
void read_refiner(SdapiDraft& draft, const TolerantReader& in) {
  std::string name = draft.context.options.refiner;
  const TolerantReader settings = in.object("override_settings");
  settings.text("sd_model_refiner", name);
  in.text("refiner_checkpoint", name);
  if (is_none(name)) return;
  float switch_at = 0.8F;
  in.number("refiner_switch_at", switch_at, 0.0F, 1.0F);
  if (switch_at >= 1.0F) return;
  draft.spec.refiner = RefinerUse{.model = find_model(draft, in, "refiner_checkpoint", ModelRole::checkpoint, name),
                                  .switch_at = switch_at};
}

void read_sampling(SdapiDraft& draft, const TolerantReader& in) {
  GenerationSpec& spec = draft.spec;
  const Limits& limits = draft.context.limits;
  spec.steps = std::min(kDefaultSteps, limits.max_steps);
  spec.guidance_scale = kDefaultGuidance;
  in.whole("steps", spec.steps, 1, limits.max_steps);
  in.number("cfg_scale", spec.guidance_scale, limits.min_guidance, limits.max_guidance);
  bool tiling = false;
  if (in.flag("tiling", tiling)) spec.tile_x = spec.tile_y = tiling;
  bool restore_faces = false;
  if (in.flag("restore_faces", restore_faces) && restore_faces) draft.warn("restore_faces is not done");
  spec.output.preview_every = std::max(1, spec.steps / kPreviews);
  // k-diffusion's: what is not their default would show.
  constexpr std::array<std::pair<const char*, float>, 3> kChurn = {
      {{"s_churn", 0.0F}, {"s_tmin", 0.0F}, {"s_noise", 1.0F}}};
  for (const auto& [key, usual] : kChurn) {
    float value = usual;
    if (in.number(key, value, -1000.0F, 1000.0F) && value != usual) draft.warn(fmt::format("{} is not done", key));
  }
}

}  // namespace

bool is_none(std::string_view name) { return name.empty() || to_lower(name) == "none"; }

std::string find_model(SdapiDraft& draft, const TolerantReader& in, std::string_view key, ModelRole role,
                       std::string_view wanted) {
  const auto found = draft.context.models.find(role, wanted);
  if (found) return (*found)->file;
  in.complain(key, found.error().message);
  ++draft.not_found;
  return "";
}

bool read_picture(SdapiDraft& draft, const TolerantReader& in, std::string_view key, const json& value,
                  ImageSource& out) {
  if (!value.is_string()) {
    in.complain(key, expected("a picture in base64", value));
    return false;
  }
  Result<ImageSource> picture = decode_picture(value.get_ref<const std::string&>(), draft.context.limits);
  if (!picture) {
    in.complain(key, picture.error().message);
    return false;
  }
  out = std::move(*picture);
  return true;
}

Refusal refusal_of(SdapiDraft& draft) {
  Error error = as_error(draft.complaints);
  if (draft.not_found == draft.complaints.size()) error.code = ErrorCode::not_found;
  return {std::move(error), std::move(draft.complaints)};
}

Result<std::string> default_checkpoint(const SdapiContext& context) {
  if (!context.options.checkpoint.empty()) return context.options.checkpoint;
  if (!context.default_model.empty()) return context.default_model;
  const auto checkpoints = context.models.of(ModelRole::checkpoint);
  if (checkpoints.empty()) return fail(ErrorCode::not_found, "there is no checkpoint in the models directories");
  return checkpoints.front()->file;
}

tl::expected<SdapiRequest, Refusal> decode_sdapi(SdapiKind kind, const json& body, const SdapiContext& context) {
  SdapiDraft draft{.kind = kind, .context = context};
  const TolerantReader in(body, "", draft.complaints);
  read_words(draft, in);
  read_seeds(draft, in);
  read_count(draft, in);
  read_settings(draft, in);
  read_refiner(draft, in);
  read_sampling(draft, in);
  read_sampler(draft, in);
  if (kind == SdapiKind::img2img) read_picture_fields(draft, in);
  read_size(draft, in);
  if (kind == SdapiKind::txt2img) read_hires(draft, in);
  read_scripts(draft, in);
  SdapiRequest request;
  in.flag("send_images", request.send_images);
  if (!draft.complaints.empty()) return tl::unexpected(refusal_of(draft));
  const char* word = kind == SdapiKind::txt2img ? "txt2img" : "img2img";
  const GenerationRequest whole{std::move(draft.spec), {.tags = {"sdapi", word}}, std::move(draft.warnings)};
  request.jobs = split_into_batches(whole, draft.pictures, context.limits.max_batch);
  in.text("prompt", request.prompt);
  in.text("negative_prompt", request.negative_prompt);
  request.sampler_name = draft.sampler_name;
  request.schedule = draft.schedule;
  request.echo = echo_of(body);
  return request;
}

}  // namespace darkroom
