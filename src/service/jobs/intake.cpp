#include "service/jobs/intake.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "service/blobs/hash.h"
#include "spec/generation_codec.h"

namespace darkroom {
namespace {

constexpr double kMillion = 1e6;
constexpr double kDecoding = 2.0;  // a picture's decoding and the rest, in passes
constexpr std::size_t kClassDigits = 16;

double megapixels(const GenerationSpec& spec, double factor = 1.0) {
  constexpr int kUsual = 1024;  // pixels, of a side that is the input picture's
  const double width = spec.width > 0 ? spec.width : kUsual;
  const double height = spec.height > 0 ? spec.height : kUsual;
  return width * height * factor * factor / kMillion;
}

}  // namespace

std::string fingerprint_of(const Submission& submission) {
  if (!submission.echo.empty()) return to_hex(sha256("echo\n" + submission.echo));
  return to_hex(sha256("spec\n" + encode_generation(submission.spec, submission.options).dump()));
}

std::string batch_class_of(const GenerationSpec& spec) {
  const bool alone = only_enlarges(spec) || spec.width == 0 || spec.height == 0 || spec.refiner || spec.hires ||
                     spec.upscale || spec.freeu || spec.pag_scale > 0.0F || !spec.controlnets.empty();
  if (alone) return "";
  std::string networks =
      fmt::format("{}\n{}\n{}x{}\n{}\n{}\n{}{}", spec.model, spec.vae, spec.width, spec.height, name_of(spec.precision),
                  name_of(spec.vae_precision), spec.tile_x ? "x" : "", spec.tile_y ? "y" : "");
  for (const LoraUse& lora : spec.loras) {
    networks += fmt::format("\n{}\n{} {}", lora.model, lora.unet_weight, lora.text_encoder_weight);
  }
  return to_hex(sha256(networks).substr(0, kClassDigits));
}

double work_of(const GenerationSpec& spec) {
  const double rows = (spec.guidance_scale > 1.0F ? 2.0 : 1.0) + (spec.pag_scale > 0.0F ? 1.0 : 0.0) +
                      static_cast<double>(spec.controlnets.size());
  const double passes = spec.steps * (spec.init_image ? std::max(spec.strength, 0.05F) : 1.0F);
  double work = (passes * rows + kDecoding) * megapixels(spec);
  if (spec.hires) {
    const int steps = spec.hires->steps > 0 ? spec.hires->steps : spec.steps;
    work += (steps * spec.hires->strength * rows + kDecoding) * megapixels(spec, spec.hires->factor);
  }
  if (spec.upscale) work += kDecoding * megapixels(spec, spec.upscale->factor);
  return work * spec.batch_size;
}

}  // namespace darkroom
