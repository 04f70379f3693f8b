// Textual inversion (Gal et al. 2022): learned vectors that stand for a word, one set for each text encoder.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

struct LearnedVectors {
  std::int64_t width = 0;
  std::vector<float> rows;  // [count, width]
  std::int64_t count() const { return width == 0 ? 0 : static_cast<std::int64_t>(rows.size()) / width; }
};

// What a file holds for SDXL's encoders; either may be empty.
struct Embedding {
  LearnedVectors clip_l;  // for text_encoder
  LearnedVectors clip_g;  // for text_encoder_2
};

// A word and what it stands for.
struct LearnedWord {
  std::string token;
  Embedding vectors;
};

// Reads SDXL's form (tensors clip_l and clip_g), diffusers' (a token's tensor) and the webui's (string_to_param); of
// the latter two, the width tells which encoder a tensor is for. Widths: those of the model's encoders, 0 where it
// lacks one. Error unsupported, where nothing in it has a width that the model takes.
Result<Embedding> read_embedding(const WeightSource& file, std::int64_t clip_l_width, std::int64_t clip_g_width);

}  // namespace darkroom::engine
