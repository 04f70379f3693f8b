#include "engine/image/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "engine/image/resize.h"

namespace darkroom::engine {
namespace {

// A picture in floats, of 0…255: [height, width, 3].
using Floats = std::vector<float>;

Floats to_floats(const Image& rgb) { return {rgb.pixels.begin(), rgb.pixels.end()}; }

// Index mirrored at the first and the last element, which are not repeated (OpenCV's BORDER_REFLECT_101).
int reflect(int i, int size) {
  if (size == 1) return 0;
  const int period = 2 * (size - 1);
  i = std::abs(i) % period;
  return i < size ? i : period - i;
}

// cv2.GaussianBlur(image, (0, 0), sigma) of a float picture: the kernel reaches `reach` σ to each side.
Floats gaussian(const Floats& in, int width, int height, float sigma, float reach) {
  const int radius = static_cast<int>(std::nearbyint(sigma * reach * 2 + 1)) / 2;
  std::vector<float> kernel;
  float sum = 0;
  for (int i = -radius; i <= radius; ++i) {
    kernel.push_back(std::exp(-static_cast<float>(i * i) / (2 * sigma * sigma)));
    sum += kernel.back();
  }
  for (float& weight : kernel) weight /= sum;

  const auto at = [width](int x, int y) { return 3 * (static_cast<std::size_t>(y) * width + x); };
  Floats rows(in.size());
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int k = -radius; k <= radius; ++k) {
        const std::size_t from = at(reflect(x + k, width), y);
        for (std::size_t c = 0; c < 3; ++c) rows[at(x, y) + c] += kernel[k + radius] * in[from + c];
      }
    }
  }
  Floats out(in.size());
  const std::size_t line = 3 * static_cast<std::size_t>(width);
  for (int y = 0; y < height; ++y) {
    for (int k = -radius; k <= radius; ++k) {
      const std::size_t from = at(0, reflect(y + k, height));
      for (std::size_t i = 0; i < line; ++i) out[at(0, y) + i] += kernel[k + radius] * rows[from + i];
    }
  }
  return out;
}

constexpr float kFloatReach = 4;  // σ; OpenCV's for float pictures
constexpr float kByteReach = 3;   // and for 8-bit ones

// The least of a pixel's three channels of a − b.
float least_difference(const Floats& a, const Floats& b, std::size_t pixel) {
  const std::size_t i = 3 * pixel;
  return std::min({a[i] - b[i], a[i + 1] - b[i + 1], a[i + 2] - b[i + 2]});
}

// One value a pixel, each computed from the pixel's number.
template <class Value>
Image gray_of(const Image& shape, Value value) {
  Image gray(shape.width, shape.height, 1);
  for (std::size_t i = 0; i < gray.pixels.size(); ++i) gray.pixels[i] = value(i);
  return gray;
}

Result<Image> run_canny(const Image& rgb, std::span<const float> arguments) {
  if (arguments[0] > arguments[1]) {
    return fail(ErrorCode::invalid_argument, "canny: low, {}, is above high, {}", arguments[0], arguments[1]);
  }
  return canny(rgb, arguments[0], arguments[1]);
}

// Rough strokes: XDoG as in sd-webui-controlnet's scribble_xdog (Winnemöller et al. 2012, "XDoG").
Result<Image> run_scribble(const Image& rgb, std::span<const float> arguments) {
  const Floats picture = to_floats(rgb);
  const Floats fine = gaussian(picture, rgb.width, rgb.height, 0.5F, kFloatReach);
  const Floats coarse = gaussian(picture, rgb.width, rgb.height, 5.0F, kFloatReach);
  const float threshold = arguments[0];
  return gray_of(rgb, [&](std::size_t i) -> std::uint8_t {
    const float darker = std::clamp(255 - least_difference(coarse, fine, i), 0.0F, 255.0F);
    return 2 * (255 - std::trunc(darker)) > threshold ? 255 : 0;
  });
}

// Thin lines, white on black: "lineart_standard" of sd-webui-controlnet and controlnet_aux. How much darker a pixel is
// than its surroundings, relative to the median of what is noticeably darker.
Result<Image> run_lineart(const Image& rgb, std::span<const float> arguments) {
  const Floats picture = to_floats(rgb);
  const Floats surroundings = gaussian(picture, rgb.width, rgb.height, arguments[0], kFloatReach);
  std::vector<float> darker(picture.size() / 3);
  std::vector<float> noticeable;
  for (std::size_t i = 0; i < darker.size(); ++i) {
    darker[i] = std::clamp(least_difference(surroundings, picture, i), 0.0F, 255.0F);
    if (darker[i] > arguments[1]) noticeable.push_back(darker[i]);
  }
  float median = 0;
  if (!noticeable.empty()) {
    std::sort(noticeable.begin(), noticeable.end());
    median = (noticeable[(noticeable.size() - 1) / 2] + noticeable[noticeable.size() / 2]) / 2;
  }
  const float gain = 127 / std::max(16.0F, median);
  return gray_of(rgb, [&](std::size_t i) { return static_cast<std::uint8_t>(std::min(255.0F, darker[i] * gain)); });
}

Result<Image> run_invert(const Image& rgb, std::span<const float>) {
  Image out = rgb;
  for (std::uint8_t& value : out.pixels) value = static_cast<std::uint8_t>(255 - value);
  return out;
}

// "blur_gaussian" of sd-webui-controlnet.
Result<Image> run_blur(const Image& rgb, std::span<const float> arguments) {
  const Floats blurred = gaussian(to_floats(rgb), rgb.width, rgb.height, arguments[0], kByteReach);
  Image out = rgb;
  std::transform(blurred.begin(), blurred.end(), out.pixels.begin(),
                 [](float v) { return static_cast<std::uint8_t>(std::nearbyint(std::clamp(v, 0.0F, 255.0F))); });
  return out;
}

// "tile_resample" of sd-webui-controlnet: detail is taken away by averaging `rate` pixels a side; here the picture is
// then brought back to its size.
Result<Image> run_tile(const Image& rgb, std::span<const float> arguments) {
  const auto reduced = [&](int side) { return std::max(1, static_cast<int>(static_cast<float>(side) / arguments[0])); };
  return resize(resize(rgb, reduced(rgb.width), reduced(rgb.height), Filter::box), rgb.width, rgb.height,
                Filter::bicubic);
}

const Preprocessor kPreprocessors[] = {
    {"canny", {{"low", 0, 2040, 100}, {"high", 0, 2040, 200}}, run_canny},  // 2040: the largest slope there is
    {"scribble", {{"threshold", 1, 64, 32}}, run_scribble},
    {"lineart", {{"sigma", 0.1F, 64, 6}, {"threshold", 0, 254, 8}}, run_lineart},
    {"invert", {}, run_invert},
    {"blur", {{"sigma", 0.01F, 64, 9}}, run_blur},
    {"tile", {{"rate", 1, 8, 4}}, run_tile},
};

std::string known_names() {
  std::string names;
  for (const Preprocessor& known : kPreprocessors) names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
  return names;
}

// The picture with its shorter side at `resolution` pixels; 0 leaves it.
Result<Image> at_resolution(Image picture, int resolution) {
  constexpr int kLongest = 16'384;  // pixels; a line of one pixel's height would become any size
  const int shorter = std::min(picture.width, picture.height);
  if (resolution == 0 || shorter == resolution || shorter < 1) return picture;
  if (static_cast<std::int64_t>(std::max(picture.width, picture.height)) * resolution / shorter > kLongest) {
    return fail(ErrorCode::invalid_argument, "a picture of {}×{} pixels is longer than {} with {} at its shorter side",
                picture.width, picture.height, kLongest, resolution);
  }
  const auto scaled = [&](int side) {
    return std::max(1, static_cast<int>(std::lround(static_cast<double>(side) * resolution / shorter)));
  };
  return resize(picture, scaled(picture.width), scaled(picture.height));
}

}  // namespace

std::span<const Preprocessor> preprocessors() { return kPreprocessors; }

Result<Image> preprocess(const Image& image, std::string_view name, std::span<const float> arguments) {
  const auto* found = std::find_if(std::begin(kPreprocessors), std::end(kPreprocessors),
                                   [&](const Preprocessor& known) { return known.name == name; });
  if (found == std::end(kPreprocessors)) {
    return fail(ErrorCode::invalid_argument, "there is no preprocessor \"{}\"; there are {}", name, known_names());
  }
  if (arguments.size() > found->arguments.size()) {
    return fail(ErrorCode::invalid_argument, "{}: {} arguments were given; it takes at most {}", name, arguments.size(),
                found->arguments.size());
  }
  if (image.width < 1 || image.height < 1) {
    return fail(ErrorCode::invalid_argument, "{}: the picture is {}×{} pixels", name, image.width, image.height);
  }
  std::vector<float> values(arguments.begin(), arguments.end());
  for (std::size_t i = 0; i < found->arguments.size(); ++i) {
    const PreprocessorArgument& argument = found->arguments[i];
    if (i == values.size()) values.push_back(argument.preset);
    if (!(values[i] >= argument.least && values[i] <= argument.most)) {
      return fail(ErrorCode::invalid_argument, "{}: {} is {}; it goes from {} to {}", name, argument.name, values[i],
                  argument.least, argument.most);
    }
  }
  return found->run(to_rgb(image), values).map([](const Image& out) { return to_rgb(out); });
}

Result<Image> preprocess_at(Image picture, int resolution, std::string_view name, std::span<const float> arguments) {
  return at_resolution(std::move(picture), resolution).and_then([&](const Image& scaled) {
    return preprocess(scaled, name, arguments);
  });
}

}  // namespace darkroom::engine
