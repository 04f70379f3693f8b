// CLIP's vocabulary: symbols for the 256 bytes, the same with the end-of-word mark, one for each merge, two specials.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace darkroom::engine {

inline constexpr std::string_view kEndOfWord = "</w>";
inline constexpr std::string_view kStartOfText = "<|startoftext|>";
inline constexpr std::string_view kEndOfText = "<|endoftext|>";

// OpenAI's merges.txt, which is compiled in.
std::string_view clip_merges_text();

// The printable character (as UTF-8) that stands for a byte, as in GPT-2.
std::string byte_symbol(std::uint8_t byte);
// The bytes in the order of their symbols' ids.
const std::vector<std::uint8_t>& bytes_in_vocabulary_order();

struct Merge {
  std::string_view left, right;
};
// A merges.txt, by rank; views into the text. `name` is what messages call it.
Result<std::vector<Merge>> parse_merges(std::string_view text, const std::string& name);

// Every token by id, as vocab.json has it.
std::vector<std::string> clip_vocabulary(const std::vector<Merge>& merges);

}  // namespace darkroom::engine
