// Words become what the UNet is told: the text encoders' states, their pooled summary, and SDXL's micro-conditioning
// (Podell et al. 2023, section 2.2).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/pipeline/sdxl_model.h"
#include "engine/weights/embedding.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// The rows of a pass, in this order; of each kind one a picture.
struct PassRows {
  int pictures = 1;
  bool unguided = false;   // without the prompt, or with the negative one
  bool perturbed = false;  // with the prompt, for perturbed-attention guidance
  int kinds() const { return 1 + static_cast<int>(unguided) + static_cast<int>(perturbed); }
  int count() const { return kinds() * pictures; }
};

struct Conditioning {
  Tensor context;               // [R, 77·chunks, C] f32
  Tensor pooled;                // [R, P] f32
  std::vector<float> time_ids;  // [R, 6]; the refiner's [R, 5]
};

// lora_words: those that the job's LoRAs teach. picture: the size that is worked at. Warnings about words that did not
// fit are added to `warnings` where they are not there yet.
Conditioning encode_prompts(const SdxlModel& model, const GenerationSpec& spec, std::span<const LearnedWord> lora_words,
                            const Size& picture, const PassRows& rows, std::vector<std::string>& warnings);

// What a pass of these rows is told of sizes: Conditioning::time_ids for another size of picture.
std::vector<float> time_ids_of(const SdxlModel& model, const GenerationSpec& spec, const Size& picture,
                               const PassRows& rows);

// The rows from `first` on, `count` of them.
Conditioning rows_of(const Conditioning& all, std::int64_t first, std::int64_t count);

}  // namespace darkroom::engine
