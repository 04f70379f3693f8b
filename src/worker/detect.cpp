#include "worker/detect.h"

#include "base/mapped_file.h"
#include "engine/image/codec.h"
#include "engine/image/preprocess.h"
#include "spec/generation_spec.h"

namespace darkroom {
namespace {

Result<engine::Image> read(const ImageSource& source) {
  if (!source.bytes.empty()) return engine::decode_image(std::as_bytes(std::span(source.bytes)));
  return MappedFile::open(source.path).and_then([](const auto& file) { return engine::decode_image(file->bytes()); });
}

}  // namespace

engine::GenerationResult detect(const GenerationSpec& spec, engine::ProgressSink& progress) {
  DR_ASSERT(only_preprocesses(spec));
  progress.stage("preprocess");
  const ControlNetUse& use = spec.controlnets.front();
  Result<engine::Image> picture = read(use.image);
  if (!picture) throw_failure(picture.error().code, "controlnet/0/control_image: {}", picture.error().message);
  engine::Image map = value_or_throw(engine::preprocess_at(std::move(*picture), use.preprocess.resolution,
                                                           use.preprocess.name, use.preprocess.arguments));
  engine::GenerationResult result;
  result.pictures.push_back(
      {.seed = spec.seed, .width = map.width, .height = map.height, .rgb = std::move(map.pixels)});
  return result;
}

}  // namespace darkroom
