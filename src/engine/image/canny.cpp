// Canny 1986, "A computational approach to edge detection", as OpenCV's canny.cpp computes it: integers throughout.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "engine/image/preprocess.h"

namespace darkroom::engine {
namespace {

struct Gradient {
  int dx = 0;
  int dy = 0;
  int magnitude() const { return std::abs(dx) + std::abs(dy); }
};

// Sobel 3×3 with the border repeated, of the channel where it is largest; the first of equals.
Gradient steepest(const Image& image, int x, int y) {
  const int channels = image.channels;
  const int left = std::max(0, x - 1) * channels;
  const int middle = x * channels;
  const int right = std::min(image.width - 1, x + 1) * channels;
  const std::uint8_t* above = image.row(std::max(0, y - 1));
  const std::uint8_t* here = image.row(y);
  const std::uint8_t* below = image.row(std::min(image.height - 1, y + 1));
  Gradient best;
  for (int c = 0; c < std::min(channels, 3); ++c) {
    const Gradient gradient{above[right + c] - above[left + c] + 2 * (here[right + c] - here[left + c]) +
                                below[right + c] - below[left + c],
                            below[left + c] - above[left + c] + 2 * (below[middle + c] - above[middle + c]) +
                                below[right + c] - above[right + c]};
    if (c == 0 || gradient.magnitude() > best.magnitude()) best = gradient;
  }
  return best;
}

// One value a pixel and a border of one zero around.
template <class T>
class Field {
 public:
  Field(int width, int height)
      : stride_(width + 2), values_(static_cast<std::size_t>(stride_) * static_cast<std::size_t>(height + 2)) {}
  T& at(int x, int y) {
    return values_[static_cast<std::size_t>(y + 1) * static_cast<std::size_t>(stride_) +
                   static_cast<std::size_t>(x + 1)];
  }

 private:
  int stride_;
  std::vector<T> values_;
};

// Whether no neighbour across the edge is steeper; the direction is one of four, split at tan 22.5° and tan 67.5°.
bool is_ridge(Field<int>& magnitudes, const Gradient& gradient, int x, int y) {
  constexpr int kShift = 15;
  constexpr std::int64_t kTan22 = 13573;  // tan 22.5° in 15-bit fixed point, rounded
  const int m = magnitudes.at(x, y);
  const std::int64_t run = std::abs(gradient.dx);
  const std::int64_t rise = static_cast<std::int64_t>(std::abs(gradient.dy)) << kShift;
  const std::int64_t low = run * kTan22;
  if (rise < low) return m > magnitudes.at(x - 1, y) && m >= magnitudes.at(x + 1, y);
  const std::int64_t high = low + (run << (kShift + 1));  // tan 67.5° = tan 22.5° + 2
  if (rise > high) return m > magnitudes.at(x, y - 1) && m >= magnitudes.at(x, y + 1);
  const int side = (gradient.dx ^ gradient.dy) < 0 ? -1 : 1;
  return m > magnitudes.at(x - side, y - 1) && m > magnitudes.at(x + side, y + 1);
}

}  // namespace

Image canny(const Image& image, float low, float high) {
  DR_ASSERT(low <= high);
  const int weak = static_cast<int>(std::floor(low));
  const int strong = static_cast<int>(std::floor(high));
  const int width = image.width;
  const int height = image.height;

  Field<int> magnitudes(width, height);
  std::vector<Gradient> gradients;
  gradients.reserve(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      gradients.push_back(steepest(image, x, y));
      magnitudes.at(x, y) = gradients.back().magnitude();
    }
  }

  struct Pixel {
    int x, y;
  };
  std::vector<Pixel> edges;               // whose neighbours are still to be looked at
  Field<char> candidates(width, height);  // ridges above the low threshold, not yet edges
  Image out(width, height, 1);
  const auto keep = [&](int x, int y) {
    candidates.at(x, y) = 0;
    out.row(y)[x] = 255;
    edges.push_back({x, y});
  };
  auto gradient = gradients.begin();
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x, ++gradient) {
      const int m = magnitudes.at(x, y);
      if (m <= weak || !is_ridge(magnitudes, *gradient, x, y)) continue;
      if (m > strong) {
        keep(x, y);
      } else {
        candidates.at(x, y) = 1;
      }
    }
  }
  while (!edges.empty()) {
    const Pixel edge = edges.back();
    edges.pop_back();
    for (int y = edge.y - 1; y <= edge.y + 1; ++y) {
      for (int x = edge.x - 1; x <= edge.x + 1; ++x) {
        if (candidates.at(x, y) != 0) keep(x, y);
      }
    }
  }
  return out;
}

}  // namespace darkroom::engine
