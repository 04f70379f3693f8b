// The words that a request teaches a model's text encoders: textual inversion.
#pragma once

#include <optional>
#include <span>

#include "engine/pipeline/sdxl_model.h"
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

// An encoder for which a file holds nothing reads the word as plain text. Throws Failure: those of opening a file,
// invalid_argument for tokens that are empty or doubled.
LearnedWords learn_words(const SdxlModel& model, std::span<const EmbeddingUse> embeddings);

}  // namespace darkroom::engine
