// Words become what the UNet is told: the text encoders' states, their pooled summary, and SDXL's micro-conditioning
// (Podell et al. 2023, section 2.2).
#pragma once

#include <string>
#include <vector>

#include "engine/pipeline/sdxl_model.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// Rows in the order in which the UNet gets them: the unguided ones, where there are any, then the guided; one a
// picture.
struct Conditioning {
  Tensor context;               // [R, 77·chunks, C] f32
  Tensor pooled;                // [R, P] f32
  std::vector<float> time_ids;  // [R, 6]; the refiner's [R, 5]
};

// pictures: rows of each kind. unguided: whether rows without the prompt come first.
// Warnings about words that did not fit are added to `warnings`.
Conditioning encode_prompts(const SdxlModel& model, const GenerationSpec& spec, int pictures, bool unguided,
                            std::vector<std::string>& warnings);

}  // namespace darkroom::engine
