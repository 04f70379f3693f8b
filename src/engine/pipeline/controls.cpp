#include "engine/pipeline/controls.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "engine/image/pixels.h"
#include "engine/image/preprocess.h"
#include "engine/pipeline/autoencoder.h"
#include "engine/pipeline/source_pictures.h"

namespace darkroom::engine {
namespace {

// Scales of each connection and, last, the middle.
std::vector<float> scales_of(std::size_t count, float scale, bool guess_mode) {
  std::vector<float> scales(count, scale);
  if (guess_mode) {
    // From a tenth to one, evenly in the logarithm.
    for (std::size_t i = 0; i < count; ++i) {
      scales[i] *= std::pow(10.0F, static_cast<float>(i) / static_cast<float>(count - 1) - 1.0F);
    }
  }
  return scales;
}

// [1,8h,8w,3] in [0,1], in the order of channels that the net wants.
Tensor picture_of(const Control& control, const ControlRun::Plan& plan, std::string_view field) {
  const Size size{.width = plan.shape.width * kLatentPixels, .height = plan.shape.height * kLatentPixels};
  const Image fitted = fit(control.map, size, plan.resize_mode, field);
  std::vector<float> pixels = to_unit_floats(fitted);
  if (control.model->config.conditioning_is_bgr) {
    for (std::size_t i = 0; i < pixels.size(); i += 3) std::swap(pixels[i], pixels[i + 2]);
  }
  return from_host(control.model->network.backend(), pixels, {1, size.height, size.width, 3});
}

// [1, …] → [rows, …]
Tensor repeated(const Tensor& one, std::int64_t rows) {
  const std::vector<float> values = to_host(one);
  std::vector<float> all;
  all.reserve(values.size() * static_cast<std::size_t>(rows));
  for (std::int64_t n = 0; n < rows; ++n) all.insert(all.end(), values.begin(), values.end());
  return from_host(one.backend(), all, {rows, one.dim(1), one.dim(2), one.channels()});
}

}  // namespace

std::vector<Control> read_controls(const GenerationSpec& spec,
                                   std::span<const std::shared_ptr<ControlNetModel>> models) {
  DR_ASSERT(models.size() == spec.controlnets.size());
  std::vector<Control> controls;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const ControlNetUse& use = spec.controlnets[i];
    const std::string field = fmt::format("controlnet/{}/control_image", i);
    Image map = to_rgb(read_picture(use.image, field));
    if (!use.preprocess.name.empty()) {
      map = value_or_throw(
          preprocess_at(std::move(map), use.preprocess.resolution, use.preprocess.name, use.preprocess.arguments));
    }
    int type = 0;
    if (models[i]->config.num_control_type > 0) {
      const Result<int> index = control_type_index(use.type, models[i]->config.num_control_type);
      if (!index) throw_failure(index.error().code, "controlnet/{}: {}", i, index.error().message);
      type = *index;
    }
    controls.push_back({.model = models[i], .use = use, .type = type, .map = std::move(map)});
  }
  return controls;
}

ControlRun::ControlRun(const Plan& plan) : rows_(plan.rows.count()) {
  // compat(diffusers): in guess mode the rows without a prompt get nothing.
  if (plan.guess_mode && plan.rows.unguided) first_ = plan.rows.pictures;
  const std::int64_t count = rows_ - first_;
  const Conditioning seen = rows_of(plan.conditioning, first_, count);
  const auto passes = static_cast<double>(plan.timesteps.size());
  for (std::size_t n = 0; n < plan.controls.size(); ++n) {
    const Control& control = plan.controls[n];
    ControlNetModel& model = *control.model;
    model.network.wrap = plan.wrap;
    Prepared prepared{.model = &model};
    const std::string field = fmt::format("controlnet/{}/control_image", n);
    prepared.picture = repeated(model.net.embed(picture_of(control, plan, field), control.type), count);
    prepared.prompt = model.net.prompt_keys(seen.context);
    prepared.times = model.net.time_rows(
        {.timesteps = plan.timesteps, .pooled = seen.pooled, .time_ids = seen.time_ids}, control.type);
    prepared.scales = scales_of(model.net.scale_count(), control.use.scale, plan.guess_mode);
    for (std::size_t i = 0; i < plan.timesteps.size(); ++i) {
      // compat(diffusers): a pass that begins before the start or ends after the end goes without.
      const auto pass = static_cast<double>(i);
      prepared.active.push_back(control.use.scale != 0.0F && pass / passes >= as_written(control.use.start) &&
                                (pass + 1) / passes <= as_written(control.use.end));
    }
    prepared_.push_back(std::move(prepared));
  }
}

void ControlRun::add_to(EncoderStates& unet, std::size_t i, const Tensor& latents) const {
  const Tensor seen = latents.slice_batch(first_, rows_ - first_);
  for (const Prepared& one : prepared_) {
    if (!one.active[i]) continue;
    one.model->network.finite("controlnet", [&] {
      return one.model->net.add_to(
          unet, first_,
          {.latents = seen, .picture = one.picture, .time = one.times[i], .prompt = one.prompt, .scales = one.scales});
    });
  }
}

}  // namespace darkroom::engine
