// Residual-in-residual dense blocks (Wang et al. 2018, "ESRGAN"; Wang et al. 2021, "Real-ESRGAN"): basicsr's RRDBNet.
#pragma once

#include <array>
#include <vector>

#include "engine/models/upscaler.h"
#include "engine/nn/layers.h"

namespace darkroom::engine {

// Five convolutions, each of which sees the input and all results before its own: they lie side by side in one tensor.
struct DenseBlock {
  std::array<Conv2d, 5> convs;
  std::int64_t growth = 0;  // channels that each but the last adds

  static DenseBlock load(const Loader& loader, const RrdbnetConfig& config);
  Tensor operator()(const Tensor& x) const;  // [N,H,W,C] f32
};

struct Rrdb {
  std::array<DenseBlock, 3> rdbs;

  static Rrdb load(const Loader& loader, const RrdbnetConfig& config);
  Tensor operator()(const Tensor& x) const;  // [N,H,W,C] f32
};

class Rrdbnet final : public UpscalerNetwork {
 public:
  Rrdbnet(Network& network, const WeightSource& source, const RrdbnetConfig& config, DType compute);
  int scale() const override { return config_.scale(); }
  int cell() const override { return config_.unshuffle; }
  std::vector<float> operator()(std::span<const float> picture, int height, int width) const override;

  static std::uint64_t bytes_per_pixel(const RrdbnetConfig& config, DType compute);

 private:
  Tensor forward(Tensor x) const;  // [1,h,w,3·unshuffle²] → [1,h·2^doublings,w·2^doublings,3], both f32

  RrdbnetConfig config_;
  Network& network_;
  Conv2d conv_first_;
  std::vector<Rrdb> body_;
  Conv2d conv_body_;
  std::vector<Upsample2D> conv_up_;
  Conv2d conv_hr_;
  Conv2d conv_last_;
};

}  // namespace darkroom::engine
