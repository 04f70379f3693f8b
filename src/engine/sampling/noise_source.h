// Where a scheduler's noise comes from. The pipeline implements it, because each picture of a batch has its own generator.
#pragma once

#include <span>

namespace darkroom::engine {

class NoiseSource {
 public:
  virtual ~NoiseSource() = default;
  // Standard normal noise for the whole batch, in the order and layout of the samples.
  virtual void fill(std::span<float> batch) = 0;
};

}  // namespace darkroom::engine
