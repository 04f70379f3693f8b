// States of an encoder to add to.
#pragma once

#include <vector>

#include "engine/backend/ops.h"
#include "engine/models/unet_blocks.h"

namespace darkroom::test {

// What the encoder of a UNet of this configuration makes of latents [rows, height, width, ...], but zeros.
inline engine::EncoderStates zero_states(engine::Backend& backend, const engine::UnetConfig& config, std::int64_t rows,
                                         std::int64_t height, std::int64_t width) {
  const auto zeros = [&](std::int64_t channels) {
    const engine::Shape shape{rows, height, width, channels};
    return engine::from_host(backend, std::vector<float>(static_cast<std::size_t>(shape.elements())), shape);
  };
  engine::EncoderStates states{.skips = {zeros(config.block_out_channels[0])}, .middle = {}};
  for (std::size_t level = 0; level < config.block_out_channels.size(); ++level) {
    const std::int64_t channels = config.block_out_channels[level];
    for (int i = 0; i < config.layers_per_block; ++i) states.skips.push_back(zeros(channels));
    if (level + 1 == config.block_out_channels.size()) break;
    height = (height + 1) / 2;
    width = (width + 1) / 2;
    states.skips.push_back(zeros(channels));
  }
  states.middle = zeros(config.block_out_channels.back());
  return states;
}

}  // namespace darkroom::test
