// The types that a model's networks compute in.
#pragma once

#include "engine/tensor/dtype.h"

namespace darkroom::engine {

struct ComputeTypes {
  DType text = DType::f32;   // text encoders
  DType model = DType::f32;  // UNet, ControlNets
  DType vae = DType::f32;
  bool operator==(const ComputeTypes&) const = default;
};

}  // namespace darkroom::engine
