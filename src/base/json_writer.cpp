#include "base/json_writer.h"

#include <array>
#include <charconv>

#include "base/error.h"

namespace darkroom {

double shortest_decimal(float value) {
  std::array<char, 32> text{};
  const auto written = std::to_chars(text.begin(), text.end(), value);
  double decimal = 0.0;
  const auto read = std::from_chars(text.begin(), written.ptr, decimal);
  DR_ASSERT(read.ec == std::errc{});
  return decimal;
}

}  // namespace darkroom
