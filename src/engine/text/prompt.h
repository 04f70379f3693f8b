// A prompt as the text encoders take it: chunks of 77 tokens, each token with a weight.
// The weighted syntax is that of AUTOMATIC1111's web UI (modules/prompt_parser.py, sd_hijack_clip.py).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/text/tokenizer.h"

namespace darkroom::engine {

// A stretch of text of one weight; or a BREAK, which ends the chunk.
struct PromptPart {
  std::string text;
  double weight = 1.0;
  bool is_break = false;
};

// (word:1.3), (word) ×1.1, [word] ÷1.1, \( \) \[ \] \\ literal, BREAK. What does not fit the syntax is text.
// Linear in the text, at any depth of brackets. Neighbours have different weights; never empty.
// Error invalid_argument: a weight beyond ±kMaxPromptWeight.
Result<std::vector<PromptPart>> parse_weighted_prompt(std::string_view text);
inline constexpr double kMaxPromptWeight = 100.0;

inline constexpr std::size_t kMaxPromptChunks = 256;

struct PromptChunk {
  std::vector<TokenId> ids;    // 77: start, up to 75, end, padding
  std::vector<float> weights;  // 77; 1 for what is not text
};

struct EncodedPrompt {
  std::vector<PromptChunk> chunks;  // at least one
  std::string cut;                  // plain only: the text that did not fit; to be reported

  bool is_weighted() const;  // any weight other than 1
};

// One chunk, taken literally; text beyond 75 tokens is cut, as diffusers does.
Result<EncodedPrompt> encode_plain_prompt(std::string_view text, const ClipTokenizer& tokenizer);
// As many chunks as the text needs. A placeholder's vectors stay in one chunk. Error invalid_argument: not UTF-8,
// a weight or a length beyond the limits.
Result<EncodedPrompt> encode_weighted_prompt(std::string_view text, const ClipTokenizer& tokenizer);

// Appends empty chunks up to a count: both encoders, and prompt and negative prompt, must have equally many.
void extend_to(EncodedPrompt& prompt, std::size_t chunks, const ClipTokenizer& tokenizer);

}  // namespace darkroom::engine
