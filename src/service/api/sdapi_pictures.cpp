// img2img's pictures and mask, the hires pass, and upscalers by webui's names.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "service/api/picture_input.h"
#include "service/api/sdapi_inside.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr float kMaxFactor = 8.0F;
constexpr float kImg2ImgStrength = 0.75F;
constexpr int kMaxBlur = 64;      // pixels, as webui's page has it
constexpr int kMaxPadding = 256;  // pixels

void read_mask(SdapiDraft& draft, const TolerantReader& in) {
  const json* mask = in.value("mask");
  if (mask == nullptr) return;
  ImageSource picture;
  if (!read_picture(draft, in, "mask", *mask, picture)) return;
  draft.spec.mask_image = std::move(picture);

  MaskUse& use = draft.spec.mask;
  use.blur = 4;  // the defaults are webui's
  int blur_x = 4;
  int blur_y = 4;
  if (in.whole("mask_blur", use.blur, 0, kMaxBlur)) blur_x = blur_y = use.blur;
  const bool has_x = in.whole("mask_blur_x", blur_x, 0, kMaxBlur);
  const bool has_y = in.whole("mask_blur_y", blur_y, 0, kMaxBlur);
  if (has_x || has_y) use.blur = std::max(blur_x, blur_y);
  if (blur_x != blur_y) draft.warn("mask_blur_x and mask_blur_y differ; the larger one is used for both");

  int fill = 0;
  in.whole("inpainting_fill", fill, 0, 3);
  constexpr std::array kFills = {MaskFill::surroundings, MaskFill::original, MaskFill::noise, MaskFill::nothing};
  use.fill = kFills[static_cast<std::size_t>(fill)];

  bool only_masked = true;
  int padding = 0;
  in.flag("inpaint_full_res", only_masked);
  in.whole("inpaint_full_res_padding", padding, 0, kMaxPadding);
  if (only_masked) use.margin = padding;
  int invert = 0;
  in.whole("inpainting_mask_invert", invert, 0, 1);
  use.invert = invert == 1;
}

// The words of webui's latent ways of enlarging; they differ in how the latents are interpolated.
bool is_latent(std::string_view name) { return to_lower(name).starts_with("latent"); }

// hr_resize_x and y, where given, go before the factor.
float factor_of(SdapiDraft& draft, const TolerantReader& in) {
  float factor = 2.0F;
  in.number("hr_scale", factor, 1.0F, kMaxFactor);
  int to_width = 0;
  int to_height = 0;
  constexpr int kMaxSide = 16'384;
  const bool has_width = in.whole("hr_resize_x", to_width, 0, kMaxSide);
  const bool has_height = in.whole("hr_resize_y", to_height, 0, kMaxSide);
  if ((!has_width && !has_height) || (to_width == 0 && to_height == 0)) return factor;
  const float by_width = static_cast<float>(to_width) / static_cast<float>(draft.spec.width);
  const float by_height = static_cast<float>(to_height) / static_cast<float>(draft.spec.height);
  if (to_width != 0 && to_height != 0 && by_width != by_height) {
    draft.warn("hr_resize_x and hr_resize_y have another shape than width and height; the picture keeps its own");
  }
  factor = std::max(by_width, by_height);
  if (factor < 1.0F || factor > kMaxFactor) {
    in.complain(by_width > by_height ? "hr_resize_x" : "hr_resize_y",
                fmt::format("is {} times the picture, must be between 1 and {} times", factor, kMaxFactor));
  }
  return factor;
}

void warn_of_second_pass(SdapiDraft& draft, const TolerantReader& in) {
  for (const char* key : {"hr_sampler_name", "hr_scheduler", "hr_checkpoint_name", "hr_prompt", "hr_negative_prompt"}) {
    std::string value;
    if (in.text(key, value) && !is_none(value) && !value.starts_with("Use same")) {
      draft.warn(fmt::format("{} is not done: the second pass uses what the first does", key));
    }
  }
}

}  // namespace

void read_picture_fields(SdapiDraft& draft, const TolerantReader& in) {
  GenerationSpec& spec = draft.spec;
  const std::vector<const json*> pictures = in.list("init_images");
  if (pictures.empty()) return in.complain("init_images", "is required");
  if (pictures.size() > 1) {
    in.complain("init_images", fmt::format("has {} pictures; one is made into others at a time", pictures.size()));
  }
  ImageSource picture;
  if (read_picture(draft, in, "init_images", *pictures.front(), picture)) {
    if (auto size = size_like(picture, draft.context.limits)) {
      spec.width = size->width;
      spec.height = size->height;
    } else {
      in.complain("init_images", size.error().message);
    }
    spec.init_image = std::move(picture);
  }
  spec.strength = kImg2ImgStrength;
  in.number("denoising_strength", spec.strength, 0.0F, 1.0F);

  // 0 just resize, 1 crop and resize, 2 resize and fill, 3 just resize (latent upscale).
  int mode = 0;
  in.whole("resize_mode", mode, 0, 3);
  constexpr std::array kModes = {ResizeMode::stretch, ResizeMode::crop, ResizeMode::pad, ResizeMode::stretch};
  spec.resize_mode = kModes[static_cast<std::size_t>(mode)];
  if (mode == 3) draft.warn("resize_mode 3: the picture is resized, not its latents");
  read_mask(draft, in);
}

void read_hires(SdapiDraft& draft, const TolerantReader& in) {
  bool enabled = false;
  if (!in.flag("enable_hr", enabled) || !enabled) return;
  HiresUse hires{.strength = 0.75F};
  hires.factor = factor_of(draft, in);
  in.whole("hr_second_pass_steps", hires.steps, 0, draft.context.limits.max_steps);
  in.number("denoising_strength", hires.strength, 0.0F, 1.0F);
  std::string name = "Latent";
  in.text("hr_upscaler", name);
  if (is_latent(name)) {
    hires.upscaler = kLatentUpscaler;
    if (to_lower(name) != kLatentUpscaler) draft.warn(fmt::format("hr_upscaler \"{}\" is done as \"Latent\"", name));
  } else {
    read_upscaler(draft, in, "hr_upscaler", name, hires.upscaler);
  }
  warn_of_second_pass(draft, in);
  draft.spec.hires = hires;
}

void read_upscaler(SdapiDraft& draft, const TolerantReader& in, std::string_view key, std::string_view name,
                   std::string& out) {
  const std::string lower = to_lower(name);
  // compat(webui): its "None" is a plain resize, which it does by Lanczos.
  if (is_none(name) || lower == kLanczosUpscaler) {
    out = kLanczosUpscaler;
  } else if (lower == "nearest") {
    draft.warn(fmt::format("{} \"Nearest\" is done as \"Lanczos\"", key));
    out = kLanczosUpscaler;
  } else {
    out = find_model(draft, in, key, ModelRole::upscaler, name);
  }
}

}  // namespace darkroom
