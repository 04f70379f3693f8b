// What a request may ask for. The defaults are the specification's; darkroom.toml changes them (config/config.h).
#pragma once

#include <cstddef>

namespace darkroom {

struct Limits {
  int min_side = 256;  // pixels
  int max_side = 2048;
  int side_multiple = 8;
  int max_steps = 150;
  float min_guidance = 1.0F;
  float max_guidance = 30.0F;
  int max_batch = 9;
  float max_lora_weight = 2.0F;  // either sign
  int max_loras = 32;
  int max_controlnets = 8;
  int max_embeddings = 64;
  std::size_t prompt_bytes = 100'000;
  std::size_t picture_bytes = 32'000'000;  // of one encoded picture that a request brings
  int max_timeout = 86'400;                // seconds
};

}  // namespace darkroom
