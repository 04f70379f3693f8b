// Any bytes as a weighted prompt: an error, or whole chunks with finite weights.
#include "engine/text/prompt.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace darkroom::engine;
  static const ClipTokenizer tokenizer =
      *ClipTokenizer::clip_l().with_placeholders({{"<x>", 50000, 3}, {"<huge>", 60000, 200}});
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto parts = parse_weighted_prompt(text)) {
    DR_ASSERT(!parts->empty());
    for (const PromptPart& part : *parts) DR_ASSERT(std::isfinite(part.weight));
  }
  if (const auto prompt = encode_weighted_prompt(text, tokenizer)) {
    DR_ASSERT(!prompt->chunks.empty() && prompt->chunks.size() <= kMaxPromptChunks);
    for (const PromptChunk& chunk : prompt->chunks) {
      DR_ASSERT(chunk.ids.size() == kTokensPerPrompt && chunk.weights.size() == kTokensPerPrompt);
    }
  }
  (void)encode_plain_prompt(text, tokenizer);
  return 0;
}
