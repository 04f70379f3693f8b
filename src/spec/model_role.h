// What a model file is for; also the folder that it lies in.
#pragma once

#include <array>
#include <cstdint>

#include "base/enum_names.h"

namespace darkroom {

enum class ModelRole : std::uint8_t { checkpoint, lora, controlnet, vae, embedding, upscaler };

constexpr auto enum_names(ModelRole) {
  using enum ModelRole;
  return std::to_array<EnumName<ModelRole>>({{"checkpoint", checkpoint},
                                             {"lora", lora},
                                             {"controlnet", controlnet},
                                             {"vae", vae},
                                             {"embedding", embedding},
                                             {"upscaler", upscaler}});
}

}  // namespace darkroom
