// What an adapted layer adds to its weight. Formulas: lora_layer.h.
#pragma once

#include "engine/weights/lora_layer.h"
#include "engine/weights/lora_matrix.h"

namespace darkroom::engine {

// Whether the change is a product of two matrices and nothing else: several of these add up to one product.
bool is_plain_product(const AdapterLayer& layer);
// Whether the change depends on the weight that it is added to.
bool needs_base(const AdapterLayer& layer);

// ΔW [O, I·taps] with alpha in it, at strength 1. `base` is W, looked at only where needs_base().
FloatMatrix weight_change(const AdapterLayer& layer, const FloatMatrix& base, int threads);

}  // namespace darkroom::engine
