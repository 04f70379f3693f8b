#include "engine/pipeline/generation.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "engine/image/pixels.h"
#include "engine/image/resize.h"
#include "engine/pipeline/schedule.h"
#include "engine/pipeline/vae_tiles.h"

namespace darkroom::engine {
namespace {

// Seeds of a job's pictures, the base's noise. Variations of a picture share its seed and differ in the other.
std::vector<std::uint64_t> picture_seeds(const GenerationSpec& spec) {
  std::vector<std::uint64_t> seeds;
  for (int i = 0; i < spec.batch_size; ++i) {
    seeds.push_back(spec.variation ? spec.seed : spec.seed + static_cast<std::uint64_t>(i));
  }
  return seeds;
}

// 1 where a mask of pixels is white, by the nearest pixel as in diffusers; between 0 and 1 where it is blurred.
std::vector<float> latent_mask(const std::optional<Image>& mask, const LatentShape& shape) {
  std::vector<float> values;
  for (int y = 0; y < shape.height; ++y) {
    for (int x = 0; x < shape.width; ++x) {
      const int white = mask ? mask->row(y * kLatentPixels)[x * kLatentPixels] : 255;
      values.push_back(static_cast<float>(white) / 255.0F);
    }
  }
  return values;
}

// The picture in [−1, 1] with the masked part grey.
std::vector<float> without_masked(const Image& picture, const std::optional<Image>& mask) {
  std::vector<float> values = to_signed_floats(picture);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!mask || mask->pixels[i / 3] >= 128) values[i] = 0.0F;
  }
  return values;
}

}  // namespace

Generation::Generation(const JobModels& models, const GenerationSpec& spec, StageClock& clock,
                       const CancelToken& cancel, EncodedInputs& encoded)
    : models_(models),
      spec_(spec),
      clock_(clock),
      cancel_(cancel),
      seeds_(picture_seeds(spec)),
      encoded_(encoded),
      size_{.width = spec.width, .height = spec.height} {}

GenerationResult Generation::run() {
  begin();
  denoise(*models_.base, *first_denoising_);
  return finish();
}

void Generation::begin() {
  check();
  models_.vae->network.wrap = models_.base->unet_network->wrap = wrap();
  if (models_.refiner) models_.refiner->unet_network->wrap = wrap();
  // 1. The pictures that the request brings.
  clock_.begin("read");
  sources_ = read_source_pictures(spec_);
  controls_ = read_controls(spec_, models_.controlnets);
  // 2. Noise, or a picture with noise added, becomes latents of what the words say.
  begin_first_pass();
}

GenerationResult Generation::finish() {
  first_denoising_.reset();  // what it holds for all passes is not needed any more
  first_run_.reset();
  // 3. The same, larger.
  if (spec_.hires) second_pass();
  // 4. A second model finishes them, or goes over them again.
  if (models_.refiner) refine();
  // 5. Latents become pictures.
  decode();
  // 6. Which are made larger.
  if (spec_.upscale) upscale_results();
  for (Control& control : controls_) result_.control_maps.push_back(std::move(control.map));
  result_.stages = clock_.finish();
  return std::move(result_);
}

void Generation::check() const {
  const Checkpoint& base = models_.base->checkpoint;
  if (models_.vae == nullptr) {
    throw_failure(ErrorCode::unsupported, "{} has no VAE; name one as models.vae", base.path.string());
  }
  if (models_.vae->config.latent_channels != base.unet.config.out_channels) {
    throw_failure(ErrorCode::unsupported, "the VAE has {} latent channels, the UNet of {} makes {}",
                  models_.vae->config.latent_channels, base.path.string(), base.unet.config.out_channels);
  }
  if (base.info.kind == ModelKind::refiner && !spec_.init_image) {
    throw_failure(ErrorCode::unsupported, "{} is an SDXL refiner and makes no picture from words alone",
                  base.path.string());
  }
  if (models_.refiner && models_.refiner->checkpoint.unet.config.in_channels != base.unet.config.out_channels) {
    throw_failure(ErrorCode::unsupported, "{} takes {} channels and cannot refine latents of {}",
                  models_.refiner->checkpoint.path.string(), models_.refiner->checkpoint.unet.config.in_channels,
                  base.unet.config.out_channels);
  }
  // Every run's schedule, before the first of them takes its time.
  check_steps(*models_.base, spec_.scheduler, spec_.steps, "");
  const bool own_steps = spec_.hires && spec_.hires->steps > 0;
  if (own_steps) check_steps(*models_.base, spec_.scheduler, spec_.hires->steps, "hires/");
  if (models_.refiner) {
    check_steps(*models_.refiner, spec_.scheduler, own_steps ? spec_.hires->steps : spec_.steps, "refiner: ");
  }
}

Guidance Generation::guidance() const {
  return {.scale = spec_.guidance_scale, .rescale = spec_.guidance_rescale, .pag_scale = spec_.pag_scale};
}

PassRows Generation::rows_for(const SdxlModel& model) const {
  // A UNet that was distilled to take the guidance scale as an input needs no second pass.
  const bool distilled = model.checkpoint.unet.config.time_cond_proj_dim > 0;
  return {.pictures = spec_.batch_size,
          .unguided = guidance().needs_unguided() && !distilled,
          .perturbed = guidance().needs_perturbed()};
}

LatentShape Generation::shape() const {
  return {.pictures = spec_.batch_size,
          .height = size_.height / kLatentPixels,
          .width = size_.width / kLatentPixels,
          .channels = static_cast<int>(models_.base->checkpoint.unet.config.out_channels)};
}

bool Generation::repaints() const {
  return models_.base->checkpoint.info.kind == ModelKind::inpaint || (sources_ && sources_->mask);
}

// Words for the present size, and the whole of the schedule.
Generation::Run Generation::start_run(SdxlModel& model, int steps) {
  clock_.begin("text");
  ChosenScheduler chosen = choose_scheduler(model, spec_.scheduler);
  chosen.scheduler->set_timesteps(steps);
  if (result_.scheduler.empty()) result_.scheduler = chosen.name;
  const StepRange all = steps_between(*chosen.scheduler, std::nullopt, std::nullopt);
  return {.model = model,
          .conditioning = conditioning_for(model),
          .scheduler = std::move(chosen.scheduler),
          .steps = steps,
          .passes = all,
          .shape = shape()};
}

// A model's words are encoded once; what changes with the size are the sizes that it is told.
Conditioning Generation::conditioning_for(const SdxlModel& model) {
  const PassRows rows = rows_for(model);
  const auto known = encoded_.words.find(&model);
  if (known == encoded_.words.end()) {
    Conditioning conditioning = encode_prompts(model, spec_, models_.lora_words, size_, rows, result_.warnings);
    return encoded_.words.emplace(&model, std::move(conditioning)).first->second;
  }
  Conditioning conditioning = known->second;
  conditioning.time_ids = time_ids_of(model, spec_, size_, rows);
  return conditioning;
}

Denoising Generation::denoising_of(const Run& run) {
  const bool is_base = &run.model == models_.base.get();
  return Denoising(run.model,
                   {.scheduler = *run.scheduler,
                    .passes = run.passes,
                    .rows = rows_for(run.model),
                    .conditioning = run.conditioning,
                    .guidance = guidance(),
                    .shape = run.shape,
                    .controls = is_base ? std::span<const Control>(controls_) : std::span<const Control>(),
                    .guess_mode = spec_.guess_mode,
                    // The first pass refuses pictures of another size; what it took fits a larger pass too.
                    .resize_mode = size_.width == spec_.width ? spec_.resize_mode : ResizeMode::stretch,
                    .repaint = repaint_ ? &*repaint_ : nullptr,
                    .freeu = is_base && spec_.freeu ? &*spec_.freeu : nullptr},
                   latents_, *noise_, clock_.progress(), cancel_);
}

void Generation::denoise_run(const Run& run) {
  Denoising denoising = denoising_of(run);
  denoise(run.model, denoising);
}

void Generation::begin_first_pass() {
  Run& run = first_run_.emplace(start_run(*models_.base, spec_.steps));
  // A refiner takes over from the last pass of the base.
  if (models_.refiner && !spec_.hires)
    run.passes = steps_between(*run.scheduler, std::nullopt, spec_.refiner->switch_at);
  if (run.passes.first >= run.passes.last) {
    throw_failure(ErrorCode::invalid_argument, "refiner: switch_at {} leaves the base none of its {} steps",
                  *spec_.refiner->switch_at, spec_.steps);
  }
  noise_.emplace(seeds_, run.shape);
  if (sources_ || repaints()) {
    clock_.begin("encode");
    start_from_picture(run);
  } else {
    latents_ = first_noise(run.shape);
    for (float& value : latents_) value *= run.scheduler->init_noise_sigma();
  }
  clock_.begin("denoise");
  first_denoising_.emplace(denoising_of(run));
}

void Generation::second_pass() {
  const HiresUse& hires = *spec_.hires;
  const auto scaled = [&](int side) {
    return static_cast<int>(std::lround(static_cast<double>(side) * as_written(hires.factor) / kLatentPixels)) *
           kLatentPixels;
  };
  const LatentShape before = shape();
  size_ = {.width = scaled(size_.width), .height = scaled(size_.height)};
  noise_.emplace(seeds_, shape());
  clock_.begin("enlarge");
  latents_ = enlarged(before);

  Run run = start_run(*models_.base, hires.steps > 0 ? hires.steps : spec_.steps);
  if (models_.refiner) run.passes = steps_between(*run.scheduler, std::nullopt, spec_.refiner->switch_at);
  run.passes.first = first_step_for_strength(*run.scheduler, run.steps, hires.strength);
  if (run.passes.first >= run.passes.last) {
    repaint_.reset();
    return;
  }
  const std::vector<float> noise = first_noise(run.shape);
  if (sources_) sources_ = resized(*sources_, size_);
  if (repaints()) {
    const bool by_unet = models_.base->checkpoint.info.kind == ModelKind::inpaint;
    std::vector<float> original;
    if (!by_unet) original = sample_picture(to_signed_floats(sources_->init), run.shape);
    repaint_ = repaint_of(run.shape, std::move(original), noise);
  }
  const std::vector<float> clean = latents_;
  run.scheduler->add_noise(clean, noise, run.passes.first, latents_);
  clock_.begin("denoise");
  denoise_run(run);
}

void Generation::refine() {
  const RefinerUse& refiner = *spec_.refiner;
  const int steps = spec_.hires && spec_.hires->steps > 0 ? spec_.hires->steps : spec_.steps;
  Run run = start_run(*models_.refiner, steps);
  if (refiner.strength) {
    run.passes.first = first_step_for_strength(*run.scheduler, steps, *refiner.strength);
    if (run.passes.first >= run.passes.last) return;
    noise_.emplace(seeds_, run.shape);
    const std::vector<float> clean = latents_;
    run.scheduler->add_noise(clean, first_noise(run.shape), run.passes.first, latents_);
  } else {
    run.passes = steps_between(*run.scheduler, refiner.switch_at, std::nullopt);
    if (run.passes.first >= run.passes.last) {
      result_.warnings.push_back(fmt::format(
          "refiner: none of the {} steps is left after switch_at {}, the base did all", steps, *refiner.switch_at));
      return;
    }
  }
  clock_.begin("refine");
  denoise_run(run);
}

void Generation::decode() {
  clock_.begin("decode");
  models_.base->unet_network->backend().trim();  // the decoder asks for other sizes than the UNet
  for (int i = 0; i < spec_.batch_size; ++i) {
    Image image = decode_one(i, shape());
    if (sources_ && sources_->surroundings) {
      const auto& [whole, mask, area] = *sources_->surroundings;
      image = put_back(whole, mask, area, image);
    }
    result_.pictures.push_back({.seed = seeds_[static_cast<std::size_t>(i)],
                                .width = image.width,
                                .height = image.height,
                                .rgb = std::move(image.pixels)});
  }
}

Image Generation::decode_one(int picture, const LatentShape& shape) {
  cancel_.throw_if_cancelled();
  const auto begin = static_cast<std::size_t>(picture) * shape.each();
  return models_.vae->decode(std::span(latents_).subspan(begin, shape.each()), shape, tile_of(shape), cancel_);
}

// The side of the tiles that the VAE works in; 0: none.
int Generation::tile_of(const LatentShape& shape) const {
  return vae_tile(spec_.vae_tile, shape.height, shape.width, models_.base->types.vae);
}

void Generation::upscale_results() {
  clock_.begin("upscale");
  models_.base->unet_network->backend().trim();  // tiles have other sizes than what went before
  upscale_pictures(result_.pictures, models_.upscaler.get(), spec_.upscale->factor, wrap(), clock_.progress(), cancel_);
}

// The noise that a run begins with, for the whole batch.
std::vector<float> Generation::first_noise(const LatentShape& shape) {
  std::vector<float> noise(shape.elements());
  noise_->fill(noise);
  if (spec_.variation) {
    std::vector<std::uint64_t> seeds;
    for (int i = 0; i < shape.pictures; ++i) seeds.push_back(spec_.variation->seed + static_cast<std::uint64_t>(i));
    std::vector<float> other(noise.size());
    PictureNoise(seeds, shape).fill(other);
    mix_noise(noise, other, spec_.variation->strength, shape);
  }
  return noise;
}

// A sample for each picture of the batch: of its own distribution, or all of the same.
std::vector<float> Generation::sampled(std::span<const LatentDistribution> distributions, const LatentShape& shape) {
  std::vector<float> noise(shape.elements());
  noise_->fill(noise);
  std::vector<float> latents;
  for (std::size_t i = 0; i < static_cast<std::size_t>(shape.pictures); ++i) {
    const std::vector<float> one = models_.vae->sample(distributions[i % distributions.size()],
                                                       std::span(noise).subspan(i * shape.each(), shape.each()));
    latents.insert(latents.end(), one.begin(), one.end());
  }
  return latents;
}

// Latents of one picture of the request's, [8h, 8w, 3] in [−1, 1], which is encoded once.
std::vector<float> Generation::sample_picture(std::vector<float> pixels, const LatentShape& shape) {
  auto known = std::ranges::find(encoded_.pictures, pixels, &EncodedInputs::Picture::pixels);
  if (known == encoded_.pictures.end()) {
    cancel_.throw_if_cancelled();
    LatentDistribution latents = models_.vae->encode(pixels, shape, tile_of(shape), cancel_);
    known = encoded_.pictures.insert(known, {.pixels = std::move(pixels), .latents = std::move(latents)});
  }
  return sampled(std::span(&known->latents, 1), shape);
}

// Image to image and inpainting: where the run begins, and with which latents.
// compat(diffusers): the order of the draws is that of its pipelines: the picture, the noise, the masked picture.
void Generation::start_from_picture(Run& run) {
  const float strength = sources_ ? spec_.strength : 1.0F;
  run.passes.first = first_step_for_strength(*run.scheduler, run.steps, strength);
  if (run.passes.first >= run.passes.last) {
    throw_failure(ErrorCode::invalid_argument, "strength: {} of {} steps leaves none to do{}", strength, spec_.steps,
                  run.passes.last < static_cast<int>(run.scheduler->timesteps().size()) ? " before the refiner's" : "");
  }
  const bool by_unet = run.model.checkpoint.info.kind == ModelKind::inpaint;
  // Inpainting at full strength begins with noise alone.
  const bool from_noise = repaints() && strength == 1.0F;
  std::vector<float> original;
  if (!from_noise || !by_unet) original = sample_picture(to_signed_floats(sources_->init), run.shape);
  std::vector<float> noise = first_noise(run.shape);
  latents_ = noise;
  if (sources_ && sources_->mask && !original.empty()) fill_masked(original, run.shape);
  if (from_noise) {
    for (float& value : latents_) value *= run.scheduler->init_noise_sigma();
  } else {
    run.scheduler->add_noise(original, noise, run.passes.first, latents_);
  }
  if (by_unet) original.clear();
  if (repaints()) repaint_ = repaint_of(run.shape, std::move(original), std::move(noise));
}

// Puts noise or nothing where a request wants to begin with that.
void Generation::fill_masked(std::vector<float>& latents, const LatentShape& shape) const {
  if (spec_.mask.fill != MaskFill::noise && spec_.mask.fill != MaskFill::nothing) return;
  std::vector<float> filling(latents.size());
  // compat(webui): the seeds' first noise, which is also what is added.
  if (spec_.mask.fill == MaskFill::noise) PictureNoise(seeds_, shape).fill(filling);
  const std::vector<float> mask = latent_mask(sources_->mask, shape);
  const auto channels = static_cast<std::size_t>(shape.channels);
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const float white = mask[i / channels % mask.size()];
    latents[i] += white * (filling[i] - latents[i]);
  }
}

// original: empty for a UNet that is told what to keep.
Repaint Generation::repaint_of(const LatentShape& shape, std::vector<float> original, std::vector<float> noise) {
  const std::optional<Image> mask = sources_ ? sources_->mask : std::nullopt;
  Repaint repaint{
      .mask = latent_mask(mask, shape), .original = std::move(original), .noise = std::move(noise), .masked = {}};
  if (repaint.original.empty()) {
    const Image grey(size_.width, size_.height, 3);
    repaint.masked = sample_picture(without_masked(sources_ ? sources_->init : grey, mask), shape);
  } else {
    // compat(diffusers): it encodes the masked picture also for a UNet that does not look at it.
    std::vector<float> unused(shape.elements());
    noise_->fill(unused);
  }
  return repaint;
}

// The latents at the present size, from what they were: as latents, or by way of pictures.
std::vector<float> Generation::enlarged(const LatentShape& from) {
  const LatentShape to = shape();
  if (spec_.hires->upscaler == kLatentUpscaler) return resize_latents(latents_, from, to);
  std::vector<LatentDistribution> distributions;
  for (int i = 0; i < from.pictures; ++i) {
    const Image larger =
        upscale(decode_one(i, from), models_.hires_upscaler.get(), size_, {.wrap = wrap(), .sink = {}}, cancel_);
    cancel_.throw_if_cancelled();
    distributions.push_back(models_.vae->encode(to_signed_floats(larger), to, tile_of(to), cancel_));
  }
  return sampled(distributions, to);
}

}  // namespace darkroom::engine
