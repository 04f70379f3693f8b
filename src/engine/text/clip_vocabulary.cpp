#include "engine/text/clip_vocabulary.h"

#include <algorithm>
#include <array>

extern const char darkroom_clip_merges[];  // NOLINT(readability-identifier-naming): a symbol of the generated source

namespace darkroom::engine {

namespace {

// Printable bytes stand for themselves; the others, in order, for U+0100 and on.
bool is_printable(int byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE; }

}  // namespace

std::string_view clip_merges_text() { return darkroom_clip_merges; }

const std::vector<std::uint8_t>& bytes_in_vocabulary_order() {
  static const std::vector<std::uint8_t> order = [] {
    std::vector<std::uint8_t> bytes;
    for (const bool printable : {true, false}) {
      for (int byte = 0; byte < 256; ++byte) {
        if (is_printable(byte) == printable) bytes.push_back(static_cast<std::uint8_t>(byte));
      }
    }
    return bytes;
  }();
  return order;
}

std::string byte_symbol(std::uint8_t byte) {
  unsigned code = byte;
  if (!is_printable(byte)) {
    code = 0x100;
    for (int other = 0; other < byte; ++other) code += is_printable(other) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

Result<std::vector<Merge>> parse_merges(std::string_view text, const std::string& name) {
  std::vector<Merge> merges;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const std::size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      return fail(ErrorCode::corrupt_data, "{}: line {} is not two symbols", name, line_number);
    }
    merges.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return merges;
}

std::vector<std::string> clip_vocabulary(const std::vector<Merge>& merges) {
  std::vector<std::string> tokens;
  tokens.reserve(514 + merges.size());
  for (const std::string_view suffix : {std::string_view(), kEndOfWord}) {
    for (const std::uint8_t byte : bytes_in_vocabulary_order())
      tokens.push_back(byte_symbol(byte) + std::string(suffix));
  }
  for (const Merge& merge : merges) tokens.push_back(std::string(merge.left) + std::string(merge.right));
  tokens.emplace_back(kStartOfText);
  tokens.emplace_back(kEndOfText);
  return tokens;
}

}  // namespace darkroom::engine
