#include "engine/pipeline/masked_area.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "engine/image/pixels.h"
#include "engine/image/resize.h"

namespace darkroom::engine {
namespace {

// A stretch along one axis of a picture, grown to `wanted` about its middle and moved back into the picture.
void grow(int& begin, int& length, int wanted, int limit) {
  wanted = std::min(wanted, limit);
  if (wanted <= length) return;
  begin = std::clamp(begin - (wanted - length) / 2, 0, limit - wanted);
  length = wanted;
}

std::uint8_t mixed(std::uint8_t under, std::uint8_t over, int weight) {
  return static_cast<std::uint8_t>((under * (255 - weight) + over * weight + 127) / 255);
}

}  // namespace

Area masked_area(const Image& mask, int margin, const Size& size) {
  int left = mask.width, top = mask.height, right = -1, bottom = -1;
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      if (mask.row(y)[x] == 0) continue;
      left = std::min(left, x);
      right = std::max(right, x);
      top = std::min(top, y);
      bottom = std::max(bottom, y);
    }
  }
  if (right < 0) {
    throw_failure(ErrorCode::invalid_argument,
                  "mask_image: nothing in it is masked, so there is no part to work on alone (mask.margin)");
  }
  Area area;
  area.x = std::max(left - margin, 0);
  area.y = std::max(top - margin, 0);
  area.width = std::min(right + 1 + margin, mask.width) - area.x;
  area.height = std::min(bottom + 1 + margin, mask.height) - area.y;
  const double shape = static_cast<double>(size.width) / size.height;
  if (area.width > area.height * shape) {
    grow(area.y, area.height, static_cast<int>(area.width / shape), mask.height);
  } else {
    grow(area.x, area.width, static_cast<int>(area.height * shape), mask.width);
  }
  return area;
}

Image cut_out(const Image& picture, const Area& area) {
  Image part(area.width, area.height, picture.channels);
  for (int y = 0; y < area.height; ++y) {
    std::copy_n(picture.row(area.y + y) + static_cast<std::ptrdiff_t>(area.x) * picture.channels, part.row_bytes(),
                part.row(y));
  }
  return part;
}

Image put_back(const Image& picture, const Image& mask, const Area& area, const Image& part) {
  const Image fitted = resize(part, area.width, area.height);
  Image whole = picture;
  for (int y = 0; y < area.height; ++y) {
    const std::uint8_t* weights = mask.row(area.y + y) + area.x;
    std::uint8_t* pixels = whole.row(area.y + y) + static_cast<std::ptrdiff_t>(area.x) * 3;
    for (int i = 0; i < area.width * 3; ++i) pixels[i] = mixed(pixels[i], fitted.row(y)[i], weights[i / 3]);
  }
  return whole;
}

Image fill_from_surroundings(const Image& picture, const Image& mask) {
  // What is not masked, premultiplied with its opacity, so that blurring brings no black in.
  Image around(picture.width, picture.height, 4);
  for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
    const int opacity = 255 - mask.pixels[i];
    for (std::size_t c = 0; c < 3; ++c) around.pixels[4 * i + c] = mixed(0, picture.pixels[3 * i + c], opacity);
    around.pixels[4 * i + 3] = static_cast<std::uint8_t>(opacity);
  }
  // Soft layers first, sharper ones over them as often as the webui lays them.
  struct Layer {
    float radius;
    int times;
  };
  constexpr std::array kLayers = std::to_array<Layer>({{256, 1}, {64, 1}, {16, 2}, {4, 4}, {2, 2}, {0, 1}});
  std::vector<float> filled(3 * mask.pixels.size());
  for (const auto& [radius, times] : kLayers) {
    const Image layer = radius > 0 ? gaussian_blur(around, radius) : around;
    for (int n = 0; n < times; ++n) {
      for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
        const float clear = 1.0F - static_cast<float>(layer.pixels[4 * i + 3]) / 255.0F;
        for (std::size_t c = 0; c < 3; ++c) {
          filled[3 * i + c] = filled[3 * i + c] * clear + static_cast<float>(layer.pixels[4 * i + c]);
        }
      }
    }
  }
  Image result(picture.width, picture.height, 3);
  std::ranges::transform(filled, result.pixels.begin(), [](float value) {
    return static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0F, 255.0F)));
  });
  return result;
}

}  // namespace darkroom::engine
