// Any bytes as a text: an error for what is not UTF-8, or ids of the vocabulary; and any bytes as a merges.txt.
#include "engine/text/tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/text/clip_vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace darkroom::engine;
  static const ClipTokenizer plain = ClipTokenizer::clip_g();
  static const ClipTokenizer tokenizer = *plain.with_placeholders({{"<x>", 50000, 3}, {"word", 50010, 1}});
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)parse_merges(text, "fuzz");
  const auto ids = tokenizer.encode(text);
  if (!ids) return 0;
  for (const TokenId id : *ids) {
    DR_ASSERT((id >= 0 && id < tokenizer.vocabulary_size()) || (id >= 50000 && id < 50003) || id == 50010);
  }
  DR_ASSERT(tokenizer.pad_to_77(*ids).size() == kTokensPerPrompt);
  DR_ASSERT(plain.encode(tokenizer.decode(*ids)).has_value());  // decode gives UTF-8
  return 0;
}
