// From a picture to what a ControlNet is shown, by name and arguments as in "canny:100,200". No networks.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/image/image.h"

namespace darkroom::engine {

struct PreprocessorArgument {
  std::string_view name;
  float least = 0;
  float most = 0;
  float preset = 0;  // taken when the argument is left out
};

struct Preprocessor {
  std::string_view name;
  std::vector<PreprocessorArgument> arguments;
  Result<Image> (*run)(const Image& rgb, std::span<const float> arguments);
};

// All there are, with their arguments in order.
std::span<const Preprocessor> preprocessors();

// An RGB picture of the same size. Arguments left out at the end take their preset. Error invalid_argument: an unknown
// name (the message lists the known), too many arguments, one out of its range, an empty picture.
Result<Image> preprocess(const Image& image, std::string_view name, std::span<const float> arguments);

// The same once the shorter side is brought to `resolution` pixels; 0: the picture as it is. Error invalid_argument
// also where the longer side would pass 16384.
Result<Image> preprocess_at(Image picture, int resolution, std::string_view name, std::span<const float> arguments);

// Edges, 0 or 255, one channel: OpenCV's cv2.Canny(image, low, high) with its defaults, aperture 3 and the L1 norm. In
// a colour picture each pixel takes the channel with the steepest slope. low ≤ high.
Image canny(const Image& image, float low, float high);

}  // namespace darkroom::engine
