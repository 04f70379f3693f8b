// Classifier-free guidance (Ho & Salimans 2022) over host floats.
#pragma once

#include <span>

namespace darkroom::engine {

struct Guidance {
  float scale = 1.0F;    // 1 or less: none, and no unguided pass is needed
  float rescale = 0.0F;  // φ of Lin et al. 2023, section 3.4: pulls the result's spread back to the prompt's; 0: off
  bool needs_unguided() const { return scale > 1.0F; }
};

// unguided + scale·(guided − unguided), then rescaled a picture at a time. All [pictures, values]; out may be either.
void guide(const Guidance& guidance, std::span<const float> unguided, std::span<const float> guided, int pictures,
           std::span<float> out);

}  // namespace darkroom::engine
