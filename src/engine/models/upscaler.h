// What enlarges pictures by a whole number: one of the networks of rrdbnet.h and compact.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/nn/parameter.h"
#include "engine/weights/checkpoint.h"

namespace darkroom::engine {

class UpscalerNetwork {
 public:
  UpscalerNetwork() = default;
  UpscalerNetwork(const UpscalerNetwork&) = delete;
  UpscalerNetwork& operator=(const UpscalerNetwork&) = delete;
  virtual ~UpscalerNetwork() = default;

  virtual int scale() const = 0;
  // Pictures have sides that are multiples of this; a tile of one begins at such a place.
  virtual int cell() const = 0;
  // [height, width, 3] → [height·scale, width·scale, 3], RGB about 0 to 1. Throws Failure{internal}, naming the layer,
  // where a result is not finite.
  virtual std::vector<float> operator()(std::span<const float> picture, int height, int width) const = 0;
};

// `compute` is float32 or bfloat16.
std::unique_ptr<UpscalerNetwork> make_upscaler(Network& network, const ModelPart<UpscalerConfig>& part, DType compute);

// The same of any network without its weights.
int scale_of(const UpscalerConfig& config);
// Memory of a pass for each pixel that goes in, in bytes.
std::uint64_t bytes_per_pixel(const UpscalerConfig& config, DType compute);

}  // namespace darkroom::engine
