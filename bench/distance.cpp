#include "bench/distance.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "engine/image/compare.h"
#include "engine/pipeline/engine.h"

namespace darkroom::bench {
namespace {

using namespace engine;

class NoProgress final : public ProgressSink {
 public:
  void stage(std::string_view) override {}
  void step(const StepProgress&) override {}
};

// What the demo model has learned.
constexpr std::array<std::string_view, 4> kPrompts{
    "a sunset over snowy mountains and a lake with a sailboat", "a starry night over pine forest and a snow field",
    "red rocks and a desert, sunset", "a red circle on a white background"};

constexpr std::int64_t kSeeds = 4;  // of each

GenerationSpec spec_of(const std::filesystem::path& model, std::string_view prompt, std::int64_t seed,
                       Precision precision) {
  GenerationSpec spec;
  spec.model = model.string();
  spec.prompt = prompt;
  spec.width = spec.height = 256;
  spec.steps = 25;
  spec.guidance_scale = 5.0F;
  spec.scheduler = {.name = "DPMSolverMultistepScheduler", .options = {{"use_karras_sigmas", "true"}}};
  spec.seed = seed;
  spec.precision = precision;
  return spec;
}

}  // namespace

void run_distance(const std::filesystem::path& model, Precision precision, Report& report) {
  Engine engine{EngineOptions{}};
  const auto make = [&](std::string_view prompt, std::int64_t seed, Precision type) {
    NoProgress silent;
    GenerationResult result = engine.generate(spec_of(model, prompt, seed, type), silent, CancelToken());
    GeneratedPicture& made = result.pictures.front();
    Image picture(made.width, made.height, 3);
    picture.pixels = std::move(made.rgb);
    return picture;
  };
  double worst = 1e9, sum = 0;
  for (const std::string_view prompt : kPrompts) {
    for (std::int64_t seed = 1; seed <= kSeeds; ++seed) {
      const double distance = psnr(make(prompt, seed, precision), make(prompt, seed, Precision::float32));
      worst = std::min(worst, distance);
      sum += distance;
    }
  }
  const std::int64_t count = kSeeds * static_cast<std::int64_t>(kPrompts.size());
  const double mean = sum / static_cast<double>(count);
  report.line("{} pictures of {} in {}: PSNR to float32 {:.1f} dB, at worst {:.1f} dB", count,
              model.filename().string(), name_of(precision), mean, worst);
  report.json["distance_db"] = {{"mean", mean}, {"worst", worst}};
}

}  // namespace darkroom::bench
