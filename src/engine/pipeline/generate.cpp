#include "engine/pipeline/generate.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "engine/pipeline/conditioning.h"
#include "engine/pipeline/guidance.h"
#include "engine/pipeline/latents.h"
#include "engine/sampling/scheduler.h"
#include "spec/scheduler_names.h"

namespace darkroom::engine {
namespace {

constexpr int kLatentPixels = 8;  // a latent is that many pixels wide and high

struct ChosenScheduler {
  std::string name;  // diffusers' class
  std::unique_ptr<Scheduler> scheduler;
};

// The scheduler asked for, over the model's own configuration; the model's own where none is asked for.
ChosenScheduler choose_scheduler(const SdxlModel& model, const SchedulerChoice& choice) {
  const std::string& config = model.checkpoint.scheduler_config;
  ResolvedScheduler resolved;
  if (choice.name.empty()) {
    const auto json = nlohmann::json::parse(config, nullptr, /*allow_exceptions=*/false);
    resolved.class_name =
        json.is_object() ? json.value("_class_name", "EulerDiscreteScheduler") : "EulerDiscreteScheduler";
  } else {
    resolved = value_or_throw(resolve_scheduler(choice.name));
  }
  // What is asked for by key goes over what a name like "Karras" means.
  std::vector<SchedulerOption> options = std::move(resolved.options);
  options.insert(options.end(), choice.options.begin(), choice.options.end());
  return {.name = resolved.class_name,
          .scheduler = value_or_throw(make_scheduler(resolved.class_name, config, options))};
}

// Repeats a batch for the unguided and the guided half of a pass.
std::vector<float> for_each_half(std::span<const float> batch, int halves) {
  std::vector<float> repeated;
  repeated.reserve(batch.size() * static_cast<std::size_t>(halves));
  for (int i = 0; i < halves; ++i) repeated.insert(repeated.end(), batch.begin(), batch.end());
  return repeated;
}

struct Denoising {
  Scheduler& scheduler;
  const Conditioning& conditioning;
  Guidance guidance;
  bool unguided_rows = false;  // whether passes have them
  LatentShape shape;
};

// Runs all passes of the schedule over `latents` [N, h, w, C].
void denoise(SdxlModel& model, const Denoising& plan, std::vector<float>& latents, NoiseSource& noise,
             ProgressSink& progress, const CancelToken& cancel) {
  Unet& unet = *model.unet;
  Backend& backend = model.unet_network->backend();
  const std::span<const float> timesteps = plan.scheduler.timesteps();
  const int passes = static_cast<int>(timesteps.size());
  const int halves = plan.unguided_rows ? 2 : 1;
  const Shape shape{halves * plan.shape.pictures, plan.shape.height, plan.shape.width, plan.shape.channels};

  // The same for every pass: the prompt's keys and values, and the time embeddings of all passes.
  const std::vector<PromptKeys> prompt = unet.prompt_keys(plan.conditioning.context);
  const std::vector<TimeRows> times = unet.time_rows({.timesteps = timesteps,
                                                      .pooled = plan.conditioning.pooled,
                                                      .time_ids = plan.conditioning.time_ids,
                                                      .guidance_scale = plan.guidance.scale});
  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < passes; ++i) {
    cancel.throw_if_cancelled();
    std::vector<float> input = latents;
    plan.scheduler.scale_model_input(i, input);
    const Tensor rows = from_host(backend, for_each_half(input, halves), shape);
    const Tensor predicted =
        model.unet_network->finite("unet", [&] { return unet(rows, times[static_cast<std::size_t>(i)], prompt); });
    std::vector<float> prediction = to_host(predicted);
    if (halves == 2) {
      const std::span<float> all(prediction);
      guide(plan.guidance, all.first(latents.size()), all.subspan(latents.size()), plan.shape.pictures,
            all.first(latents.size()));
      prediction.resize(latents.size());
    }
    plan.scheduler.step(i, prediction, latents, noise);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    progress.step({.step = i + 1,
                   .steps = passes,
                   .picture_count = plan.shape.pictures,
                   .seconds_per_step = seconds / (i + 1),
                   .latents = latents,
                   .latent_height = plan.shape.height,
                   .latent_width = plan.shape.width});
  }
}

// One picture's latents [h, w, C] → 8-bit RGB, rounded as diffusers rounds.
GeneratedPicture decode(Autoencoder& vae, std::span<const float> latents, const LatentShape& shape,
                        std::uint64_t seed) {
  std::vector<float> raw(latents.begin(), latents.end());
  vae.unscale(raw);
  const Tensor z = from_host(vae.network->backend(), raw, {1, shape.height, shape.width, shape.channels});
  const std::vector<float> values = to_host(vae.network->finite("vae", [&] { return (*vae.decoder)(z); }));
  GeneratedPicture picture{.seed = seed,
                           .width = shape.width * kLatentPixels,
                           .height = shape.height * kLatentPixels,
                           .rgb = std::vector<std::uint8_t>(values.size())};
  std::ranges::transform(values, picture.rgb.begin(), [](float value) {
    return static_cast<std::uint8_t>(std::nearbyint(std::clamp(value / 2 + 0.5F, 0.0F, 1.0F) * 255.0F));
  });
  return picture;
}

}  // namespace

void StageClock::begin(std::string name) {
  end();
  progress_.stage(name);
  stages_.push_back({.name = std::move(name)});
  started_ = Clock::now();
}

std::vector<StageTime> StageClock::finish() {
  end();
  return std::move(stages_);
}

void StageClock::end() {
  if (!stages_.empty()) stages_.back().seconds = std::chrono::duration<double>(Clock::now() - started_).count();
}

void refuse_what_is_missing(const GenerationSpec& spec) {
  std::vector<std::string> missing;
  const auto refuse_if = [&](bool asked, const char* what) {
    if (asked) missing.emplace_back(what);
  };
  refuse_if(!spec.vae.empty(), "a VAE of its own");
  refuse_if(spec.refiner.has_value(), "a refiner");
  refuse_if(!spec.loras.empty(), "LoRA");
  refuse_if(!spec.controlnets.empty(), "ControlNet");
  refuse_if(!spec.embeddings.empty(), "textual inversion");
  refuse_if(spec.pag_scale != 0.0F, "perturbed-attention guidance");
  refuse_if(spec.variation.has_value(), "variation seeds");
  refuse_if(spec.freeu.has_value(), "FreeU");
  refuse_if(spec.init_image.has_value(), "image to image");
  refuse_if(spec.mask_image.has_value(), "inpainting");
  refuse_if(spec.mask != MaskUse{}, "mask options");
  refuse_if(spec.hires.has_value(), "high-resolution passes");
  refuse_if(spec.upscale.has_value(), "upscaling");
  refuse_if(spec.vae_tile != 0, "tiled decoding");
  refuse_if(spec.precision == Precision::int8 || spec.vae_precision == Precision::int8, "int8");
  if (!missing.empty()) {
    throw_failure(ErrorCode::unsupported, "this version of the engine does not have: {}", fmt::join(missing, ", "));
  }
}

std::uint64_t activation_bytes(const GenerationSpec& spec, const ComputeTypes& types) {
  const auto pixels = static_cast<std::uint64_t>(spec.width) * static_cast<std::uint64_t>(spec.height);
  const auto rows = static_cast<std::uint64_t>(spec.batch_size) * (spec.guidance_scale > 1.0F ? 2 : 1);
  const std::uint64_t element = types.vae == DType::f32 ? 4 : 2;
  // The UNet's widest level holds some two dozen float32 tensors of 320 channels an eighth of the size: the skip
  // connections, and what a block works on. The decoder's last level holds three tensors of 256 channels and one of
  // half, at full size. The two do not live at the same time.
  const std::uint64_t unet = rows * pixels / 64 * 320 * 4 * 24;
  const std::uint64_t decoder = pixels * element * (3 * 256 + 128);
  return std::max(unet, decoder);
}

GenerationResult generate(SdxlModel& model, const GenerationSpec& spec, StageClock& clock, const CancelToken& cancel) {
  GenerationResult result;
  if (!model.vae) {
    throw_failure(ErrorCode::unsupported, "{} has no VAE", model.checkpoint.path.string());
  }
  if (model.checkpoint.info.kind != ModelKind::base) {
    throw_failure(ErrorCode::unsupported, "{} is not an SDXL base model and makes no picture from words alone",
                  model.checkpoint.path.string());
  }
  model.unet_network->wrap = model.vae->network->wrap = {.x = spec.tile_x, .y = spec.tile_y};

  // 1. Words become states [R, 77·chunks, 2048], a summary [R, 1280] and sizes.
  clock.begin("text");
  const Guidance guidance{.scale = spec.guidance_scale, .rescale = spec.guidance_rescale};
  // A UNet that was distilled to take the guidance scale as an input needs no second pass.
  const bool unguided = guidance.needs_unguided() && model.checkpoint.unet.config.time_cond_proj_dim == 0;
  const Conditioning conditioning = encode_prompts(model, spec, spec.batch_size, unguided, result.warnings);

  // 2. The schedule, and noise of its first level.
  ChosenScheduler chosen = choose_scheduler(model, spec.scheduler);
  chosen.scheduler->set_timesteps(spec.steps);
  result.scheduler = chosen.name;
  const LatentShape shape{.pictures = spec.batch_size,
                          .height = spec.height / kLatentPixels,
                          .width = spec.width / kLatentPixels,
                          .channels = static_cast<int>(model.checkpoint.unet.config.in_channels)};
  PictureNoise noise(spec.seed, shape);
  std::vector<float> latents(shape.elements());
  noise.fill(latents);
  for (float& value : latents) value *= chosen.scheduler->init_noise_sigma();

  // 3. Noise becomes latents.
  clock.begin("denoise");
  denoise(model,
          {.scheduler = *chosen.scheduler,
           .conditioning = conditioning,
           .guidance = guidance,
           .unguided_rows = unguided,
           .shape = shape},
          latents, noise, clock.progress(), cancel);

  // 4. Latents become pictures, one at a time: a decoder's activations are the largest of all.
  clock.begin("decode");
  model.unet_network->backend().trim();  // the decoder asks for other sizes than the UNet
  for (int i = 0; i < spec.batch_size; ++i) {
    cancel.throw_if_cancelled();
    const std::span<const float> one =
        std::span(latents).subspan(static_cast<std::size_t>(i) * shape.each(), shape.each());
    result.pictures.push_back(decode(*model.vae, one, shape, spec.seed + static_cast<std::uint64_t>(i)));
  }
  result.stages = clock.finish();
  return result;
}

}  // namespace darkroom::engine
