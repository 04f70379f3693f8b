#include "engine/pipeline/denoise.h"

#include <chrono>

namespace darkroom::engine {
namespace {

// The UNet's input for all rows of a pass, [R, h, w, C]: the same latents for each kind of row and, for a UNet of 9
// channels, the mask and the latents of what it leaves.
std::vector<float> input_rows(std::span<const float> latents, const DenoisePlan& plan, std::int64_t channels) {
  const auto width = static_cast<std::size_t>(plan.shape.channels);
  const std::size_t pixels = plan.shape.each() / width;
  std::vector<float> rows;
  rows.reserve(static_cast<std::size_t>(plan.rows.kinds()) * latents.size() / width *
               static_cast<std::size_t>(channels));
  for (int kind = 0; kind < plan.rows.kinds(); ++kind) {
    if (channels == plan.shape.channels) {
      rows.insert(rows.end(), latents.begin(), latents.end());
      continue;
    }
    const std::vector<float>& masked = plan.repaint->masked;
    for (std::size_t i = 0; i < latents.size(); i += width) {
      const auto at = static_cast<std::ptrdiff_t>(i);
      const auto end = static_cast<std::ptrdiff_t>(i + width);
      rows.insert(rows.end(), latents.begin() + at, latents.begin() + end);
      rows.push_back(plan.repaint->mask[i / width % pixels]);
      rows.insert(rows.end(), masked.begin() + at, masked.begin() + end);
    }
  }
  return rows;
}

// Guides what the UNet predicted for all rows [R, h, w, 4] into the prediction for each picture [N, h, w, 4].
void guide_rows(const DenoisePlan& plan, std::vector<float>& predicted) {
  const std::size_t size = plan.shape.elements();
  const std::span<const float> all(predicted);
  Predictions predictions;
  std::size_t at = 0;
  const auto take = [&] {
    at += size;
    return all.subspan(at - size, size);
  };
  if (plan.rows.unguided) predictions.unguided = take();
  predictions.guided = take();
  if (plan.rows.perturbed) predictions.perturbed = take();
  guide(plan.guidance, predictions, plan.shape.pictures, std::span(predicted).first(size));
  predicted.resize(size);
}

// Puts back what is not repainted, at the level of noise that pass `next` begins with; clean at the schedule's end.
void keep_original(const DenoisePlan& plan, int next, std::vector<float>& latents) {
  const Repaint& repaint = *plan.repaint;
  std::vector<float> kept = repaint.original;
  const auto passes = static_cast<int>(plan.scheduler.timesteps().size());
  if (next < passes) plan.scheduler.add_noise(repaint.original, repaint.noise, next, kept);
  const auto channels = static_cast<std::size_t>(plan.shape.channels);
  for (std::size_t i = 0; i < latents.size(); ++i) {
    const float mask = repaint.mask[i / channels % repaint.mask.size()];
    latents[i] = (1.0F - mask) * kept[i] + mask * latents[i];
  }
}

}  // namespace

void denoise(SdxlModel& model, const DenoisePlan& plan, std::vector<float>& latents, NoiseSource& noise,
             ProgressSink& progress, const CancelToken& cancel) {
  Unet& unet = *model.unet;
  Backend& backend = model.unet_network->backend();
  const int passes = plan.passes.last - plan.passes.first;
  const std::int64_t channels = unet.config().in_channels;
  const Shape input_shape{plan.rows.count(), plan.shape.height, plan.shape.width, channels};
  const Shape latent_shape{plan.rows.count(), plan.shape.height, plan.shape.width, plan.shape.channels};
  const std::span<const float> timesteps =
      plan.scheduler.timesteps().subspan(static_cast<std::size_t>(plan.passes.first), static_cast<std::size_t>(passes));

  // The same for every pass: the prompt's keys and values, the time embeddings of all passes, the control pictures.
  const std::vector<PromptKeys> prompt = unet.prompt_keys(plan.conditioning.context);
  const std::vector<TimeRows> times = unet.time_rows({.timesteps = timesteps,
                                                      .pooled = plan.conditioning.pooled,
                                                      .time_ids = plan.conditioning.time_ids,
                                                      .guidance_scale = plan.guidance.scale});
  const ControlRun controls({.controls = plan.controls,
                             .conditioning = plan.conditioning,
                             .rows = plan.rows,
                             .shape = plan.shape,
                             .timesteps = timesteps,
                             .resize_mode = plan.resize_mode,
                             .guess_mode = plan.guess_mode,
                             .wrap = model.unet_network->wrap});

  const auto started = std::chrono::steady_clock::now();
  for (int i = 0; i < passes; ++i) {
    cancel.throw_if_cancelled();
    const int pass = plan.passes.first + i;
    std::vector<float> input = latents;
    plan.scheduler.scale_model_input(pass, input);
    const Tensor rows = from_host(backend, input_rows(input, plan, channels), input_shape);
    std::optional<ControlResiduals> control;
    if (!plan.controls.empty()) {
      // A ControlNet looks at latents alone, also where the UNet takes a mask beside them.
      const Tensor plain = channels == plan.shape.channels
                               ? rows
                               : from_host(backend, input_rows(input, plan, plan.shape.channels), latent_shape);
      control = controls(static_cast<std::size_t>(i), plain);
      cancel.throw_if_cancelled();
    }
    const UnetCall call{.control = control ? &*control : nullptr,
                        .perturbed = plan.rows.perturbed ? plan.rows.pictures : 0,
                        .freeu = plan.freeu};
    const Tensor predicted = model.unet_network->finite(
        "unet", [&] { return unet(rows, times[static_cast<std::size_t>(i)], prompt, call); });
    std::vector<float> prediction = to_host(predicted);
    if (plan.rows.kinds() > 1) guide_rows(plan, prediction);
    plan.scheduler.step(pass, prediction, latents, noise);
    if (plan.repaint != nullptr && !plan.repaint->original.empty()) keep_original(plan, pass + 1, latents);
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

}  // namespace darkroom::engine
