// Guidance over host floats: classifier-free (Ho & Salimans 2022) and perturbed-attention (Ahn et al. 2024).
#pragma once

#include <span>

namespace darkroom::engine {

struct Guidance {
  float scale = 1.0F;      // 1 or less: none, and no unguided pass is needed
  float rescale = 0.0F;    // φ of Lin et al. 2023, section 3.4: pulls the result's spread back to the prompt's; 0: off
  float pag_scale = 0.0F;  // away from what the model predicts with perturbed attention; 0: off
  bool needs_unguided() const { return scale > 1.0F; }
  bool needs_perturbed() const { return pag_scale > 0.0F; }
};

// What the UNet predicts for a batch, each [pictures, values]. Empty where there is no such guidance.
struct Predictions {
  std::span<const float> unguided;
  std::span<const float> guided;
  std::span<const float> perturbed;
};

// unguided + scale·(guided − unguided) + pag_scale·(guided − perturbed), rescaled a picture at a time
// where asked for. `out` may be any of the predictions.
// compat(diffusers): nothing is rescaled where there is no unguided prediction.
void guide(const Guidance& guidance, const Predictions& predictions, int pictures, std::span<float> out);

}  // namespace darkroom::engine
