#include "service/api/picture_input.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/text.h"
#include "metadata/picture_file.h"

namespace darkroom {
namespace {

std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

}  // namespace

Result<ImageSource> decode_picture(std::string_view text, const Limits& limits) {
  if (text.starts_with("http://") || text.starts_with("https://")) {
    return fail(ErrorCode::invalid_argument, "is a URL; send the picture itself, in base64");
  }
  constexpr std::string_view kBase64 = ";base64,";
  if (text.starts_with("data:")) {
    const std::size_t comma = text.find(kBase64);
    if (comma == std::string_view::npos) return fail(ErrorCode::invalid_argument, "is a data: URI without ;base64,");
    text.remove_prefix(comma + kBase64.size());
  }
  const std::size_t most = (limits.picture_bytes + 2) / 3 * 4;
  std::string digits;
  digits.reserve(text.size());
  std::ranges::copy_if(text, std::back_inserter(digits), [](char c) { return c != '\n' && c != '\r' && c != ' '; });
  if (digits.size() > most) {
    return fail(ErrorCode::invalid_argument, "has {} characters of base64, at most {} bytes are allowed", digits.size(),
                limits.picture_bytes);
  }
  while (digits.size() % 4 != 0 && digits.size() % 4 != 1) digits += '=';
  const Result<std::string> bytes = decode_base64(digits);
  if (!bytes) return tl::unexpected(bytes.error());
  return check_picture(*bytes, limits);
}

Result<ImageSource> check_picture(std::string_view bytes, const Limits& limits) {
  if (bytes.size() > limits.picture_bytes) {
    return fail(ErrorCode::invalid_argument, "has {} bytes, at most {} are allowed", bytes.size(),
                limits.picture_bytes);
  }
  if (const auto format = picture_format(as_bytes(bytes)); !format) return tl::unexpected(format.error());
  // The worker has the same limits and holds to them, whatever a file says of itself; here they are told at once. What
  // is damaged is the worker's to name.
  constexpr int kMostSide = 16'384;
  constexpr std::int64_t kMostPixels = std::int64_t{64} << 20U;
  if (const auto size = picture_size(as_bytes(bytes))) {
    const bool fits = size->width <= kMostSide && size->height <= kMostSide &&
                      static_cast<std::int64_t>(size->width) * size->height <= kMostPixels;
    if (!fits) {
      return fail(ErrorCode::invalid_argument, "is of {}×{} pixels; the limit is {} a side and {} in all", size->width,
                  size->height, kMostSide, kMostPixels);
    }
  }
  return ImageSource{.bytes = std::string(bytes)};
}

Result<Size> size_like(const ImageSource& picture, const Limits& limits) {
  const auto stored = picture_size(as_bytes(picture.bytes));
  if (!stored) return tl::unexpected(stored.error());
  const double longer = std::max(stored->width, stored->height);
  const double shorter = std::min(stored->width, stored->height);
  double scale = 1.0;
  if (shorter < limits.min_side) scale = limits.min_side / shorter;
  if (longer * scale > limits.max_side) scale = limits.max_side / longer;
  const auto settled = [&](int side) {
    const int multiple = limits.side_multiple;
    const int rounded = static_cast<int>(std::lround(side * scale / multiple)) * multiple;
    return std::clamp(rounded, limits.min_side, limits.max_side / multiple * multiple);
  };
  return Size{settled(stored->width), settled(stored->height)};
}

}  // namespace darkroom
