#include "engine/image/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace darkroom::engine {
namespace {

bool same_shape(const Image& a, const Image& b) {
  return a.width == b.width && a.height == b.height && a.channels == b.channels;
}

}  // namespace

int max_difference(const Image& a, const Image& b) {
  if (!same_shape(a, b)) return 256;
  int largest = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) largest = std::max(largest, std::abs(a.pixels[i] - b.pixels[i]));
  return largest;
}

double psnr(const Image& a, const Image& b) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (!same_shape(a, b)) return -kInfinity;
  double squares = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double difference = a.pixels[i] - b.pixels[i];
    squares += difference * difference;
  }
  if (squares == 0) return kInfinity;
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.pixels.size()) / squares);
}

}  // namespace darkroom::engine
