// States of an encoder to add to.
#pragma once

#include <vector>

#include "engine/backend/ops.h"
#include "engine/models/unet_blocks.h"

namespace darkroom::test {

inline engine::EncoderStates zeros_like(const engine::EncoderStates& states) {
  const auto zeros = [](const engine::Tensor& x) {
    const std::vector<float> values(static_cast<std::size_t>(x.elements()));
    return engine::from_host(x.backend(), values, x.shape());
  };
  engine::EncoderStates empty{.skips = {}, .middle = zeros(states.middle)};
  for (const engine::Tensor& skip : states.skips) empty.skips.push_back(zeros(skip));
  return empty;
}

}  // namespace darkroom::test
