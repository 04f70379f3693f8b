#include "engine/image/codec.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "engine/image/formats.h"

namespace darkroom::engine {
namespace {

enum class Format : std::uint8_t { png, jpeg, webp };

bool has_at(std::span<const std::byte> file, std::size_t offset, std::string_view magic) {
  if (file.size() < offset + magic.size()) return false;
  const auto* start = reinterpret_cast<const char*>(file.data()) + offset;
  return std::string_view(start, magic.size()) == magic;
}

Result<Format> sniff(std::span<const std::byte> file) {
  if (has_at(file, 0, "\x89PNG\r\n\x1a\n")) return Format::png;
  if (has_at(file, 0, "\xff\xd8\xff")) return Format::jpeg;
  if (has_at(file, 0, "RIFF") && has_at(file, 8, "WEBP")) return Format::webp;
  if (file.empty()) return fail(ErrorCode::corrupt_data, "the picture file is empty");
  std::string head;
  for (const std::byte byte : file.first(std::min<std::size_t>(file.size(), 8))) {
    head += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
  }
  return fail(ErrorCode::corrupt_data, "not a PNG, JPEG or WebP file: it begins with{}", head);
}

// The picture turned upright: where each pixel of it lies in the stored one (Exif 2.32, 4.6.4).
Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swap = orientation >= 5;  // rows become columns
  const bool flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out(swap ? image.height : image.width, swap ? image.width : image.height, image.channels);
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int column = swap ? y : x;
      const int line = swap ? x : y;
      const std::uint8_t* from = image.row(flip_y ? image.height - 1 - line : line) +
                                 (flip_x ? image.width - 1 - column : column) * image.channels;
      std::copy_n(from, image.channels, out.row(y) + x * image.channels);
    }
  }
  return out;
}

}  // namespace

Result<Image> decode_image(std::span<const std::byte> file, const DecodeLimits& limits) {
  if (file.size() > limits.bytes) {
    return fail(ErrorCode::invalid_argument, "the picture file has {} bytes; the limit is {}", file.size(),
                limits.bytes);
  }
  const auto decode = [&](Format format) {
    switch (format) {
      case Format::png:
        return decode_png(file, limits);
      case Format::jpeg:
        return decode_jpeg(file, limits);
      case Format::webp:
        break;
    }
    return decode_webp(file, limits);
  };
  return sniff(file).and_then(decode).map(
      [](Decoded&& decoded) { return upright(std::move(decoded.image), decoded.orientation); });
}

Result<std::optional<std::string>> read_parameters(std::span<const std::byte> file) {
  return sniff(file)
      .and_then([&](Format format) {
        switch (format) {
          case Format::png:
            return read_png_parameters(file);
          case Format::jpeg:
            return read_jpeg_parameters(file);
          case Format::webp:
            break;
        }
        return read_webp_parameters(file);
      })
      .and_then([](std::optional<std::string>&& text) -> Result<std::optional<std::string>> {
        const auto ok = check_parameters(text.value_or(""));
        if (!ok) return fail(ErrorCode::corrupt_data, "{}", ok.error().message);
        return std::move(text);
      });
}

Result<void> check_size(std::string_view format, std::int64_t width, std::int64_t height, const DecodeLimits& limits) {
  if (width > limits.side || height > limits.side) {
    return fail(ErrorCode::invalid_argument, "the {} picture is {}×{} pixels; the limit is {} a side", format, width,
                height, limits.side);
  }
  if (width * height > limits.pixels) {
    return fail(ErrorCode::invalid_argument, "the {} picture is {}×{}, {} pixels; the limit is {} pixels", format,
                width, height, width * height, limits.pixels);
  }
  return {};
}

Result<void> check_encodable(std::string_view format, const Image& image, int max_side, int quality) {
  DR_ASSERT(image.pixels.size() == image.row_bytes() * static_cast<std::size_t>(image.height));
  if (image.width < 1 || image.height < 1) {
    return fail(ErrorCode::invalid_argument, "a {}×{} picture cannot be written as {}", image.width, image.height,
                format);
  }
  if (image.width > max_side || image.height > max_side) {
    return fail(ErrorCode::invalid_argument, "a {}×{} picture cannot be written as {}: the format's limit is {} a side",
                image.width, image.height, format, max_side);
  }
  if (quality < 1 || quality > 100) {
    return fail(ErrorCode::invalid_argument, "{} quality is {}; it goes from 1 to 100", format, quality);
  }
  return {};
}

Result<void> check_parameters(std::string_view parameters) {
  if (const auto at = first_invalid_utf8(parameters)) {
    return fail(ErrorCode::invalid_argument, "the parameters text is not UTF-8 at byte {}", *at);
  }
  if (const auto at = parameters.find('\0'); at != std::string_view::npos) {
    return fail(ErrorCode::invalid_argument, "the parameters text has a zero byte, at {}", at);
  }
  return {};
}

}  // namespace darkroom::engine
