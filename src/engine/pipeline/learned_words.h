// The words that a job teaches a model's text encoders: textual inversion, the request's own and what LoRAs bring.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/pipeline/sdxl_model.h"
#include "engine/weights/embedding.h"
#include "spec/generation_spec.h"

namespace darkroom::engine {

// A tokenizer that knows the words, and the vectors that they stand for.
struct TaughtTokenizer {
  ClipTokenizer tokenizer;
  ExtraTokens words;
};

struct LearnedWords {
  std::optional<TaughtTokenizer> first;  // of text_encoder, where the model has one
  TaughtTokenizer second;                // of text_encoder_2
};

// An encoder for which a file holds nothing reads the word as plain text. Of one token the request's own counts, then
// the first LoRA's; the others add to `warnings`. Throws Failure: those of opening a file, invalid_argument for tokens
// that are empty or that the request has twice.
LearnedWords learn_words(const SdxlModel& model, std::span<const EmbeddingUse> embeddings,
                         std::span<const LearnedWord> of_loras, std::vector<std::string>& warnings);

}  // namespace darkroom::engine
