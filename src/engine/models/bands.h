// Convolutional levels over a picture that is too large to be held several times, band by band of rows. A band is
// normalised with the whole picture's moments, which a pass before finds, and computed with the rows around it that its
// convolutions look at: the result is that of the whole picture at once but for the rounding of sums. What is held
// whole is one block's input and output; each block's first convolution is computed twice, and so is an upsampling in
// front.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/models/unet_blocks.h"

namespace darkroom::engine {

struct Banding {
  // Pixels of a band of up to kBandChannels channels; those of wider levels are smaller.
  std::int64_t pixels = 0;
  std::function<void()> between = [] {};  // called before each band; what it throws ends the work
};
inline constexpr std::int64_t kBandChannels = 128;

// The rows of a picture: held, or made when they are asked for.
struct Rows {
  Shape shape;  // [1, H, W, C]
  // 0 ≤ begin < end ≤ H → [1, end − begin, W, C]
  std::function<Tensor(std::int64_t begin, std::int64_t end)> make;
};
Rows held(Tensor x);

// While it lives, convolutions of the network do not join the upper edge to the lower one: bands of a picture whose
// edges meet are given the opposite rows.
class Bands {
 public:
  Bands(Network& network, Banding banding);
  Bands(const Bands&) = delete;
  Bands& operator=(const Bands&) = delete;
  ~Bands() { network_.wrap = wrap_; }

  // 3×3, of stride 1.
  Rows convolved(const Conv2d& conv, Tensor x, DType out) const;
  // 3×3, of stride 2, padded at the right and at the bottom.
  Rows downsampled(const Conv2d& conv, Tensor x, DType out) const;
  Rows upsampled(const Upsample2D& upsample, Tensor x, DType out) const;

  Tensor collect(const Rows& rows) const;
  // A block without a timestep.
  Tensor resnet(const ResnetBlock& block, const Rows& x, DType out) const;
  // conv(silu(norm(x))), float32
  Tensor norm_and_convolve(const GroupNorm& norm, const Conv2d& conv, const Rows& x) const;

 private:
  // Rows from `begin` on, which is below 0 only where edges meet.
  struct Piece {
    Tensor x;
    std::int64_t begin = 0;
  };
  Piece cut(const Rows& rows, std::int64_t begin, std::int64_t end) const;
  void each_band(const Rows& rows, const std::function<void(std::int64_t begin, std::int64_t end)>& work) const;
  std::vector<Moments> moments(const Rows& rows, int groups) const;

  Network& network_;
  Wrap wrap_;
  Banding banding_;
};

}  // namespace darkroom::engine
