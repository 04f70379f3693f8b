#include "engine/text/normalize.h"

#include <algorithm>
#include <array>

#include <utf8proc.h>

namespace darkroom::engine {

namespace {

// Reads the character that a text begins with: its bytes, or 0 if it is not valid UTF-8.
std::size_t read_character(std::string_view text, utf8proc_int32_t& code) {
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), std::ssize(text), &code);
  return length > 0 ? static_cast<std::size_t>(length) : 0;
}

// Unicode's White_Space, which is what \s matches.
bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

int combining_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

// To NFC. utf8proc's own decomposition orders marks by insertion, which is quadratic for a hostile text; it only
// composes here.
void compose(std::vector<utf8proc_int32_t>& codes) {
  std::vector<utf8proc_int32_t> decomposed;
  decomposed.reserve(codes.size());
  std::array<utf8proc_int32_t, 32> parts{};
  int ignored = 0;
  for (const utf8proc_int32_t code : codes) {
    const auto count = utf8proc_decompose_char(code, parts.data(), parts.size(), UTF8PROC_DECOMPOSE, &ignored);
    DR_ASSERT(count >= 0 && count <= std::ssize(parts));
    decomposed.insert(decomposed.end(), parts.begin(), parts.begin() + count);
  }
  for (auto at = decomposed.begin(); at != decomposed.end();) {
    if (combining_class(*at) == 0) {
      ++at;
      continue;
    }
    const auto end = std::find_if(at, decomposed.end(), [](auto code) { return combining_class(code) == 0; });
    std::stable_sort(at, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    at = end;
  }
  const auto length = utf8proc_normalize_utf32(decomposed.data(), std::ssize(decomposed),
                                               static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  DR_ASSERT(length >= 0);
  decomposed.resize(static_cast<std::size_t>(length));
  codes = std::move(decomposed);
}

}  // namespace

CharClass class_of(char32_t code) {
  if (is_space(code)) return CharClass::space;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::number;
    default:
      return CharClass::other;
  }
}

Result<std::vector<char32_t>> decode_utf8(std::string_view text) {
  std::vector<char32_t> codes;
  codes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    utf8proc_int32_t code = 0;
    const std::size_t length = read_character(text.substr(at), code);
    if (length == 0) return fail(ErrorCode::invalid_argument, "the text is not valid UTF-8 at byte {}", at);
    codes.push_back(static_cast<char32_t>(code));
    at += length;
  }
  return codes;
}

std::string valid_utf8(std::string_view text) {
  std::string valid;
  while (!text.empty()) {
    utf8proc_int32_t code = 0;
    const std::size_t length = read_character(text, code);
    valid += length > 0 ? text.substr(0, length) : std::string_view("\xEF\xBF\xBD");
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return valid;
}

Result<std::vector<char32_t>> normalize(std::string_view text) {
  const auto decoded = decode_utf8(text);
  if (!decoded) return tl::unexpected(decoded.error());
  std::vector<utf8proc_int32_t> codes(decoded->begin(), decoded->end());
  if (std::ranges::any_of(codes, [](auto code) { return code >= 0x80; })) compose(codes);

  std::vector<char32_t> result;
  result.reserve(codes.size());
  for (const utf8proc_int32_t code : codes) {
    if (is_space(static_cast<char32_t>(code))) {
      if (result.empty() || result.back() != U' ') result.push_back(U' ');
    } else if (code == 0x130) {
      // compat(transformers): the one letter whose lower case is two (İ).
      result.insert(result.end(), {U'i', U'\u0307'});
    } else {
      result.push_back(static_cast<char32_t>(utf8proc_tolower(code)));
    }
  }
  return result;
}

}  // namespace darkroom::engine
