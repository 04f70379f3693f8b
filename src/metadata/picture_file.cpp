#include "metadata/picture_file.h"

#include <algorithm>
#include <string_view>

#include <zlib.h>

#include "metadata/exif.h"
#include "metadata/infotext.h"

namespace darkroom {
namespace {

using File = std::span<const std::byte>;

constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";
constexpr std::string_view kKeyword{"parameters\0", 11};     // as a PNG text chunk begins
constexpr std::size_t kMaxTextBytes = std::size_t{4} << 20;  // of a text, decompressed

std::string_view as_text(File bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::uint32_t big_endian(File bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value = value << 8U | std::to_integer<std::uint32_t>(bytes[at + i]);
  return value;
}

std::uint32_t little_endian(File bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = size; i > 0; --i) value = value << 8U | std::to_integer<std::uint32_t>(bytes[at + i - 1]);
  return value;
}

std::string utf8_from_latin1(std::string_view latin1) {
  std::string utf8;
  for (const char c : latin1) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      utf8 += c;
    } else {
      utf8 += static_cast<char>(0xC0 | byte >> 6);
      utf8 += static_cast<char>(0x80 | (byte & 0x3F));
    }
  }
  return utf8;
}

// ---- PNG (RFC 2083, and iTXt of PNG 1.2) ------------------------------------------------------------------------

Result<std::string> inflated(std::string_view packed) {
  const auto damaged = [] {
    return fail(ErrorCode::corrupt_data, "the PNG file's compressed parameters text is damaged");
  };
  std::string text;
  z_stream stream{};
  if (inflateInit(&stream) != Z_OK) return fail(ErrorCode::out_of_memory, "cannot start zlib");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int status = Z_OK;
  while (status == Z_OK && text.size() <= kMaxTextBytes) {
    char part[16'384];
    stream.next_out = reinterpret_cast<Bytef*>(part);
    stream.avail_out = sizeof part;
    status = inflate(&stream, Z_NO_FLUSH);
    text.append(part, sizeof part - stream.avail_out);
  }
  inflateEnd(&stream);
  if (text.size() > kMaxTextBytes) {
    return fail(ErrorCode::corrupt_data, "the PNG file's parameters text is longer than {} bytes", kMaxTextBytes);
  }
  if (status != Z_STREAM_END) return damaged();
  return text;
}

// The text of a chunk after its keyword; absent: the chunk is not laid out as its type says.
Result<std::optional<std::string>> text_of_chunk(std::string_view type, std::string_view rest) {
  if (type == "tEXt") return utf8_from_latin1(rest);
  if (type == "zTXt") {
    if (rest.empty() || rest.front() != '\0') return std::nullopt;  // another method than deflate
    return inflated(rest.substr(1)).map([](const std::string& text) { return std::optional(utf8_from_latin1(text)); });
  }
  // iTXt: a flag and a method, the language and the translated keyword, each ended by a zero.
  if (rest.size() < 2) return std::nullopt;
  const bool packed = rest[0] == '\1';
  std::string_view text = rest.substr(2);
  for (int i = 0; i < 2; ++i) {
    const std::size_t end = text.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    text.remove_prefix(end + 1);
  }
  if (!packed) return std::string(text);
  return inflated(text).map([](std::string&& unpacked) { return std::optional(std::move(unpacked)); });
}

Result<std::optional<std::string>> read_png_parameters(File file) {
  constexpr std::size_t kFrame = 12;  // length, type, checksum
  File left = file.subspan(kPngSignature.size());
  while (true) {
    const std::size_t size = left.size() < kFrame ? kFrame : kFrame + big_endian(left, 0, 4);
    if (size > left.size()) return fail(ErrorCode::corrupt_data, "the PNG file is damaged: it ends inside a chunk");
    const std::string_view type = as_text(left.subspan(4, 4));
    if (type == "IEND") return std::nullopt;
    const std::string_view content = as_text(left.subspan(8, size - kFrame));
    const bool is_text = type == "tEXt" || type == "zTXt" || type == "iTXt";
    if (is_text && content.starts_with(kKeyword)) {
      const auto* checked = reinterpret_cast<const Bytef*>(left.data()) + 4;
      const auto sum = static_cast<std::uint32_t>(crc32_z(0, checked, size - 8));
      if (sum != big_endian(left, size - 4, 4)) {
        return fail(ErrorCode::corrupt_data, "the PNG file's parameters text does not match its checksum");
      }
      auto text = text_of_chunk(type, content.substr(kKeyword.size()));
      if (!text || *text) return text;
    }
    left = left.subspan(size);
  }
}

// ---- JPEG (ITU T.81, B.1) ---------------------------------------------------------------------------------------

// Visits the segments up to the pixels: visit(marker, content) answers whether to go on.
template <class Visit>
void walk_jpeg(File file, Visit&& visit) {
  std::size_t at = 2;
  while (at + 4 <= file.size() && file[at] == std::byte{0xFF} && file[at + 1] != std::byte{0xDA}) {
    if (file[at + 1] == std::byte{0xFF}) {  // a fill byte
      ++at;
      continue;
    }
    const std::size_t length = big_endian(file, at + 2, 2);
    if (length < 2 || length > file.size() - at - 2) return;
    if (!visit(std::to_integer<unsigned>(file[at + 1]), file.subspan(at + 4, length - 2))) return;
    at += 2 + length;
  }
}

File jpeg_exif(File file) {
  File found;
  walk_jpeg(file, [&](unsigned marker, File content) {
    if (marker != 0xE1 || !as_text(content).starts_with(kExifPrefix)) return true;
    found = content.subspan(kExifPrefix.size());
    return false;
  });
  return found;
}

PictureSize jpeg_size(File file) {
  PictureSize size;
  walk_jpeg(file, [&](unsigned marker, File content) {
    // SOF0…SOF15 without DHT, JPG and DAC: precision, height, width.
    const bool is_frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (!is_frame || content.size() < 5) return true;
    size = {static_cast<int>(big_endian(content, 3, 2)), static_cast<int>(big_endian(content, 1, 2))};
    return false;
  });
  return size;
}

// ---- WebP (RFC 9649) ----------------------------------------------------------------------------------------------

// The content of a RIFF chunk; empty: there is none.
File webp_chunk(File file, std::string_view wanted) {
  constexpr std::size_t kHeader = 12;
  for (std::size_t at = kHeader; at + 8 <= file.size();) {
    const std::size_t size = little_endian(file, at + 4, 4);
    if (size > file.size() - at - 8) return {};
    if (as_text(file.subspan(at, 4)) == wanted) return file.subspan(at + 8, size);
    at += 8 + size + size % 2;
  }
  return {};
}

PictureSize webp_size(File file) {
  const auto plus_one = [](std::uint32_t value) { return static_cast<int>(value) + 1; };
  if (const File extended = webp_chunk(file, "VP8X"); extended.size() >= 10) {
    return {plus_one(little_endian(extended, 4, 3)), plus_one(little_endian(extended, 7, 3))};
  }
  if (const File lossless = webp_chunk(file, "VP8L"); lossless.size() >= 5) {
    const std::uint32_t bits = little_endian(lossless, 1, 4);
    return {plus_one(bits & 0x3FFFU), plus_one(bits >> 14U & 0x3FFFU)};
  }
  // VP8: a frame tag of 3 bytes, a start code of 3, then 14 bits each.
  if (const File lossy = webp_chunk(file, "VP8 "); lossy.size() >= 10) {
    return {static_cast<int>(little_endian(lossy, 6, 2) & 0x3FFFU),
            static_cast<int>(little_endian(lossy, 8, 2) & 0x3FFFU)};
  }
  return {};
}

PictureSize png_size(File file) {
  constexpr std::size_t kHeaderEnd = 8 + 8 + 8;  // the signature, IHDR's length and name, two numbers
  constexpr std::uint32_t kLargest = 0x7FFFFFFF;
  if (file.size() < kHeaderEnd || as_text(file.subspan(12, 4)) != "IHDR") return {};
  return {static_cast<int>(std::min(big_endian(file, 16, 4), kLargest)),
          static_cast<int>(std::min(big_endian(file, 20, 4), kLargest))};
}

}  // namespace

Result<PictureFormat> picture_format(File file) {
  const std::string_view text = as_text(file);
  if (text.starts_with(kPngSignature)) return PictureFormat::png;
  if (text.starts_with("\xff\xd8\xff")) return PictureFormat::jpeg;
  if (text.starts_with("RIFF") && text.size() >= 12 && text.substr(8, 4) == "WEBP") return PictureFormat::webp;
  if (file.empty()) return fail(ErrorCode::corrupt_data, "the picture file is empty");
  std::string head;
  for (const std::byte byte : file.first(std::min<std::size_t>(file.size(), 8))) {
    head += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
  }
  return fail(ErrorCode::corrupt_data, "not a PNG, JPEG or WebP file: it begins with{}", head);
}

Result<PictureSize> picture_size(File file) {
  const auto format = picture_format(file);
  if (!format) return tl::unexpected(format.error());
  const PictureSize size = *format == PictureFormat::png    ? png_size(file)
                           : *format == PictureFormat::jpeg ? jpeg_size(file)
                                                            : webp_size(file);
  if (size.width < 1 || size.height < 1) {
    return fail(ErrorCode::corrupt_data, "the picture file's header is damaged or cut off");
  }
  return size;
}

Result<std::optional<std::string>> read_parameters(File file) {
  const auto format = picture_format(file);
  if (!format) return tl::unexpected(format.error());
  auto text = *format == PictureFormat::png ? read_png_parameters(file) : read_exif(find_exif(file)).user_comment;
  if (!text || !*text) return text;
  if (const auto ok = check_parameters_text(**text); !ok)
    return fail(ErrorCode::corrupt_data, "{}", ok.error().message);
  return text;
}

File find_exif(File file) {
  const auto format = picture_format(file);
  if (format == PictureFormat::jpeg) return jpeg_exif(file);
  if (format == PictureFormat::webp) return webp_chunk(file, "EXIF");
  return {};
}

}  // namespace darkroom
