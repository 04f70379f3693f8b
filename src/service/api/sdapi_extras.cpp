// The extras tab: pictures enlarged as they are.
#include <algorithm>

#include "base/text.h"
#include "metadata/picture_file.h"
#include "service/api/picture_input.h"
#include "service/api/sdapi_inside.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr std::size_t kMostPictures = 100;
constexpr float kMaxFactor = 8.0F;
constexpr int kMaxSide = 16'384;  // pixels

struct Extras {
  std::string upscaler;  // "": none
  int resize_mode = 0;   // 0 by a factor, 1 to a size
  float factor = 2.0F;
  Size target{512, 512};
  bool crop = true;
};

Extras read_extras(SdapiDraft& draft, const TolerantReader& in) {
  Extras extras;
  in.whole("resize_mode", extras.resize_mode, 0, 1);
  in.number("upscaling_resize", extras.factor, 1.0F, kMaxFactor);
  in.whole("upscaling_resize_w", extras.target.width, 1, kMaxSide);
  in.whole("upscaling_resize_h", extras.target.height, 1, kMaxSide);
  in.flag("upscaling_crop", extras.crop);
  std::string name = "None";
  in.text("upscaler_1", name);
  if (!is_none(name)) read_upscaler(draft, in, "upscaler_1", name, extras.upscaler);
  std::string second;
  float visibility = 0.0F;
  in.text("upscaler_2", second);
  in.number("extras_upscaler_2_visibility", visibility, 0.0F, 1.0F);
  if (!is_none(second) && visibility > 0.0F) draft.warn("upscaler_2 is not done");
  for (const char* key : {"gfpgan_visibility", "codeformer_visibility"}) {
    float visible = 0.0F;
    if (in.number(key, visible, 0.0F, 1.0F) && visible > 0.0F) draft.warn(fmt::format("{} is not done", key));
  }
  return extras;
}

// To a size: the factor that covers it, as webui does where it crops, or that fits into it.
float factor_for(const Extras& extras, const PictureSize& from) {
  if (extras.resize_mode == 0) return extras.factor;
  const float by_width = static_cast<float>(extras.target.width) / static_cast<float>(from.width);
  const float by_height = static_cast<float>(extras.target.height) / static_cast<float>(from.height);
  return extras.crop ? std::max(by_width, by_height) : std::min(by_width, by_height);
}

GenerationRequest job_of(SdapiDraft& draft, const TolerantReader& in, std::string_view key, const Extras& extras,
                         const ImageSource& picture) {
  GenerationRequest job;
  job.job.tags = {"sdapi", "extras"};
  job.spec.init_image = picture;
  job.spec.strength = 0.0F;  // the picture itself
  const auto size = picture_size(std::as_bytes(std::span(picture.bytes)));
  if (!size) {
    in.complain(key, size.error().message);
    return job;
  }
  const float factor = factor_for(extras, *size);
  if (factor < 1.0F || factor > kMaxFactor) {
    in.complain(extras.resize_mode == 1 ? "upscaling_resize_w" : "upscaling_resize",
                fmt::format("is {} times the picture of {}x{}, must be between 1 and {} times", factor, size->width,
                            size->height, kMaxFactor));
  }
  const float exact_height = static_cast<float>(size->height) * factor;
  const bool crops = extras.resize_mode == 1 && extras.crop &&
                     std::abs(exact_height - static_cast<float>(extras.target.height)) >= 1.0F;
  if (crops) draft.warn("upscaling_crop is not done: the picture keeps its shape");
  job.spec.upscale = UpscaleUse{.model = extras.upscaler, .factor = factor};
  return job;
}

}  // namespace

tl::expected<SdapiExtras, Refusal> decode_sdapi_extras(SdapiExtrasKind kind, const json& body,
                                                       const SdapiContext& context) {
  SdapiDraft draft{.kind = SdapiKind::img2img, .context = context};
  const TolerantReader in(body, "", draft.complaints);
  const Extras extras = read_extras(draft, in);
  const char* key = kind == SdapiExtrasKind::single ? "image" : "imageList";
  std::vector<const json*> pictures = in.list(key);
  if (pictures.empty()) in.complain(key, "is required");
  if (pictures.size() > kMostPictures) {
    in.complain(key, fmt::format("has {} pictures, at most {} are allowed", pictures.size(), kMostPictures));
    pictures.clear();
  }
  SdapiExtras result;
  for (const json* each : pictures) {
    // compat(webui): a batch's are {"data", "name"}.
    const bool wrapped = each->is_object() && each->contains("data");
    ImageSource picture;
    if (!read_picture(draft, in, key, wrapped ? each->at("data") : *each, picture)) continue;
    if (!extras.upscaler.empty()) result.jobs.push_back(job_of(draft, in, key, extras, picture));
    result.pictures.push_back(std::move(picture));
  }
  if (!draft.complaints.empty()) return tl::unexpected(refusal_of(draft));
  if (!result.jobs.empty()) result.jobs.front().warnings = draft.warnings;
  return result;
}

}  // namespace darkroom
