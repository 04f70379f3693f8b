#include "metadata/exif.h"

#include <cstdint>

#include <utf8proc.h>

#include "base/error.h"

namespace darkroom {
namespace {

using Block = std::span<const std::byte>;

constexpr std::string_view kUnicode{"UNICODE\0", 8};
constexpr std::string_view kAscii{"ASCII\0\0\0", 8};
constexpr unsigned kTagOrientation = 0x0112;
constexpr unsigned kTagExifIfd = 0x8769;
constexpr unsigned kTagUserComment = 0x9286;
constexpr unsigned kTypeShort = 3;
constexpr unsigned kTypeLong = 4;
constexpr unsigned kTypeUndefined = 7;

std::string_view as_text(Block block) { return {reinterpret_cast<const char*>(block.data()), block.size()}; }

// A TIFF stream; reads outside it give nothing.
struct Tiff {
  Block bytes;
  bool big_endian = true;

  std::optional<std::uint32_t> number(std::size_t offset, std::size_t size) const {
    if (offset > bytes.size() || bytes.size() - offset < size) return std::nullopt;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value = value << 8U | std::to_integer<std::uint32_t>(bytes[offset + (big_endian ? i : size - 1 - i)]);
    }
    return value;
  }

  // Offset of the 12-byte entry of `tag` in the directory at `directory`.
  std::optional<std::size_t> entry(std::size_t directory, unsigned tag) const {
    const std::uint32_t count = number(directory, 2).value_or(0);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::size_t offset = directory + 2 + std::size_t{12} * i;
      const auto found = number(offset, 2);
      if (!found) return std::nullopt;
      if (*found == tag) return offset;
    }
    return std::nullopt;
  }
};

void append_utf8(std::string& text, std::int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
}

// piexif writes big endian whatever the stream's order is, others follow the stream or put a byte order mark: the order
// is taken from the mark, else from which half of the units is zero more often, which in most scripts is the high one.
std::string utf8_from_utf16(Block units) {
  std::size_t zeros[2] = {0, 0};
  for (std::size_t i = 0; i + 1 < units.size(); i += 2) {
    for (std::size_t k = 0; k < 2; ++k) zeros[k] += units[i + k] == std::byte{0} ? 1 : 0;
  }
  std::size_t high = zeros[0] >= zeros[1] ? 0 : 1;  // index of a unit's high byte
  if (as_text(units).starts_with("\xfe\xff")) high = 0;
  if (as_text(units).starts_with("\xff\xfe")) high = 1;

  std::string text;
  const auto unit = [&](std::size_t i) {
    return std::to_integer<std::int32_t>(units[i + high]) << 8 | std::to_integer<std::int32_t>(units[i + 1 - high]);
  };
  for (std::size_t i = 0; i + 1 < units.size(); i += 2) {
    std::int32_t code_point = unit(i);
    if (i == 0 && code_point == 0xFEFF) continue;
    if ((code_point & 0xFC00) == 0xD800 && i + 3 < units.size() && (unit(i + 2) & 0xFC00) == 0xDC00) {
      code_point = 0x10000 + ((code_point & 0x3FF) << 10) + (unit(i + 2) & 0x3FF);
      i += 2;
    }
    append_utf8(text, utf8proc_codepoint_valid(code_point) ? code_point : 0xFFFD);
  }
  return text;
}

std::u16string utf16_from_utf8(std::string_view utf8) {
  const auto* text = reinterpret_cast<const utf8proc_uint8_t*>(utf8.data());
  auto left = static_cast<utf8proc_ssize_t>(utf8.size());
  std::u16string units;
  while (left > 0) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t used = utf8proc_iterate(text, left, &code_point);
    DR_ASSERT(used > 0);  // the codecs have checked it
    text += used;
    left -= used;
    if (code_point < 0x10000) {
      units += static_cast<char16_t>(code_point);
    } else {
      units += static_cast<char16_t>(0xD800 + ((code_point - 0x10000) >> 10));
      units += static_cast<char16_t>(0xDC00 + (code_point & 0x3FF));
    }
  }
  return units;
}

std::optional<std::string> decode_user_comment(Block value) {
  const std::string_view text = as_text(value);
  if (text.starts_with(kUnicode)) return utf8_from_utf16(value.subspan(kUnicode.size()));
  if (text.starts_with(kAscii)) return std::string(text.substr(kAscii.size()));
  return std::nullopt;  // JIS, or undefined
}

}  // namespace

Exif read_exif(Block block) {
  if (as_text(block).starts_with(kExifPrefix)) block = block.subspan(kExifPrefix.size());
  Exif exif;
  const std::string_view text = as_text(block);
  if (!text.starts_with("MM") && !text.starts_with("II")) return exif;
  const Tiff tiff{block, text.front() == 'M'};
  const auto first = tiff.number(4, 4);
  if (!first) return exif;
  if (const auto at = tiff.entry(*first, kTagOrientation); at && tiff.number(*at + 2, 2) == kTypeShort) {
    const std::uint32_t orientation = tiff.number(*at + 8, 2).value_or(1);
    if (orientation >= 1 && orientation <= 8) exif.orientation = static_cast<int>(orientation);
  }
  const auto pointer = tiff.entry(*first, kTagExifIfd);
  const auto directory = pointer ? tiff.number(*pointer + 8, 4) : std::nullopt;
  const auto at = directory ? tiff.entry(*directory, kTagUserComment) : std::nullopt;
  if (!at) return exif;
  const std::size_t size = tiff.number(*at + 4, 4).value_or(0);
  const std::size_t offset = tiff.number(*at + 8, 4).value_or(0);
  if (offset <= block.size() && size <= block.size() - offset) {
    exif.user_comment = decode_user_comment(block.subspan(offset, size));
  }
  return exif;
}

std::vector<std::byte> make_exif(std::string_view user_comment) {
  std::vector<std::byte> out;
  const auto put = [&](std::uint32_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(value >> shift));
  };
  const auto put_text = [&](std::string_view text) {
    for (const char c : text) out.push_back(static_cast<std::byte>(c));
  };
  const auto put_directory = [&](unsigned tag, unsigned type, std::size_t count, std::uint32_t value) {
    put(1, 2);  // one entry
    put(tag, 2);
    put(type, 2);
    put(static_cast<std::uint32_t>(count), 4);
    put(value, 4);
    put(0, 4);  // no next directory
  };
  constexpr std::uint32_t kHeaderSize = 8;
  constexpr std::uint32_t kDirectorySize = 2 + 12 + 4;
  const std::u16string units = utf16_from_utf8(user_comment);

  put_text("MM");
  put(42, 2);
  put(kHeaderSize, 4);
  put_directory(kTagExifIfd, kTypeLong, 1, kHeaderSize + kDirectorySize);
  put_directory(kTagUserComment, kTypeUndefined, kUnicode.size() + 2 * units.size(), kHeaderSize + 2 * kDirectorySize);
  put_text(kUnicode);
  for (const char16_t unit : units) put(unit, 2);
  return out;
}

}  // namespace darkroom
