// Real-ESRGAN's small networks (realesr-general-x4v3, realesr-animevideov3): basicsr's SRVGGNetCompact, 3×3
// convolutions with a slope for each channel between them, and the picture itself added at the end.
#pragma once

#include <vector>

#include "engine/models/upscaler.h"
#include "engine/nn/layers.h"

namespace darkroom::engine {

class Compact final : public UpscalerNetwork {
 public:
  Compact(Network& network, const WeightSource& source, const CompactConfig& config, DType compute);
  int scale() const override { return config_.scale(); }
  int cell() const override { return 1; }
  std::vector<float> operator()(std::span<const float> picture, int height, int width) const override;

  static std::uint64_t bytes_per_pixel(const CompactConfig& config, DType compute);

 private:
  struct Layer {
    Conv2d conv;
    std::shared_ptr<Vector> slopes;  // null: the last
  };
  CompactConfig config_;
  Network& network_;
  std::vector<Layer> body_;
};

}  // namespace darkroom::engine
