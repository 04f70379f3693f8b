// Finished pictures become larger: by a network, in tiles, as often as it takes, then by Lanczos to the exact size.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "engine/image/image.h"
#include "engine/models/upscaler.h"
#include "engine/pipeline/compute_types.h"
#include "engine/pipeline/engine.h"
#include "engine/pipeline/model_cache.h"
#include "engine/pipeline/tiles.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// An upscaler's file, laid out.
struct Upscaler final : LaidOutModel {
  // compute_type is float32 or bfloat16.
  Upscaler(Backend& backend, const ModelPart<UpscalerConfig>& part, DType compute_type);
  std::uint64_t bytes() const override { return network.bytes(); }

  UpscalerConfig config;
  DType compute;
  Network network;
  std::unique_ptr<UpscalerNetwork> model;
};

// What an upscaler computes in beside a model in `types`: int8 is not for it.
inline DType upscaler_type(const ComputeTypes& types) { return types.model == DType::i8 ? types.text : types.model; }

struct UpscaleOptions {
  int tile = 0;  // side of a tile of what the network gets, pixels; 0: 512, or less where memory demands it
  Wrap wrap;     // edges of the picture that meet the opposite ones; for Lanczos they do not
  TileSink sink;
};

// Each side times factor, to the nearest pixel. Throws Failure{invalid_argument} beyond 2^28 pixels.
Size upscaled_size(Size from, float factor);

// rgb at the size `to`. Without an upscaler Lanczos does all of it; a network is run until the picture is at least as
// large, once at least. A network reaches further than a tile's neighbourhood, so tiles differ a little from the whole
// at once: what lies nearest to a cut is thrown away and what is left blended.
Image upscale(const Image& rgb, Upscaler* upscaler, Size to, const UpscaleOptions& options, const CancelToken& cancel);

// Every picture times factor; progress is told by tiles.
void upscale_pictures(std::span<GeneratedPicture> pictures, Upscaler* upscaler, float factor, Wrap wrap,
                      ProgressSink& progress, const CancelToken& cancel);

// Memory of it for so many pictures, beside the weights, in bytes; 0 for a file that is no upscaler.
std::uint64_t upscale_bytes(const UpscaleUse& use, Size from, int pictures, DType compute);

}  // namespace darkroom::engine
