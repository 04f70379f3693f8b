// Against Pillow and OpenCV: see README.md.

#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "engine/image/codec.h"
#include "engine/image/compare.h"
#include "engine/image/pixels.h"
#include "engine/image/preprocess.h"
#include "engine/image/resize.h"

namespace darkroom::engine {
namespace {

using nlohmann::json;

const std::string kPillow = DARKROOM_SOURCE_DIR "/tests/reference/image/pillow/";
const std::string kVectors = DARKROOM_SOURCE_DIR "/tests/reference/vectors/";

json read_json(const std::string& path) { return json::parse(std::ifstream(path)); }

Result<Image> decode_file(const std::string& path) {
  return MappedFile::open(path).and_then([](const auto& file) { return decode_image(file->bytes()); });
}

Filter filter_of(const std::string& name) {
  if (name == "nearest") return Filter::nearest;
  if (name == "box") return Filter::box;
  if (name == "bilinear") return Filter::bilinear;
  if (name == "bicubic") return Filter::bicubic;
  return Filter::lanczos;
}

Image transform(const json& c, const Image& in) {
  const std::string operation = c["op"];
  if (operation == "blur") return gaussian_blur(in, c["radius"]);
  if (operation == "dilate") return dilate(in, c["radius"]);
  if (operation == "crop") return resize_and_crop(in, c["width"], c["height"]);
  if (operation == "fill") return resize_and_fill(in, c["width"], c["height"]);
  return resize(in, c["width"], c["height"], filter_of(c["filter"]));
}

TEST(Pillow, TransformsThePictureTheSame) {
  const json cases = read_json(kPillow + "cases.json")["transforms"];
  ASSERT_GT(cases.size(), 50U);
  for (const json& c : cases) {
    const Image expected = decode_file(kPillow + c["out"].get<std::string>()).value();
    const Image in = decode_file(kPillow + c["input"].get<std::string>()).value();
    EXPECT_EQ(max_difference(transform(c, in), expected), 0) << c;
  }
}

TEST(Pillow, DecodesTheFileTheSame) {
  const json cases = read_json(kPillow + "cases.json")["decoded"];
  ASSERT_GT(cases.size(), 10U);
  for (const json& c : cases) {
    const std::string name = c["input"];
    const auto decoded = decode_file(kPillow + name);
    ASSERT_TRUE(decoded) << name << ": " << decoded.error().message;
    Image expected(c["width"], c["height"], c["channels"]);
    expected.pixels = c["pixels"].get<std::vector<std::uint8_t>>();
    EXPECT_EQ(max_difference(*decoded, expected), 0) << name;
  }
}

TEST(Pillow, WritesFilesThatAreRefusedByName) {
  EXPECT_EQ(decode_file(kPillow + "cmyk.jpg").error().code, ErrorCode::unsupported);
  EXPECT_EQ(decode_file(kPillow + "animated.webp").error().code, ErrorCode::unsupported);
}

TEST(OpenCv, FindsTheSameCannyEdges) {
  const json cases = read_json(kVectors + "preprocessors/canny.json");
  ASSERT_EQ(cases.size(), 4U);
  for (const json& c : cases) {
    const auto picture = [&](const char* key) { return decode_file(kVectors + c[key].get<std::string>()).value(); };
    const Image rgb = picture("image");
    EXPECT_EQ(canny(rgb, c["low"], c["high"]), picture("edges_from_rgb")) << c;
    EXPECT_EQ(canny(to_gray(rgb), c["low"], c["high"]), picture("edges_from_gray")) << c;
  }
}

}  // namespace
}  // namespace darkroom::engine
