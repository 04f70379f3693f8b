// The weights of the manifests: known values, and models that do not depend on how they are written.
#include "tools/model_writer.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/weights/safetensors.h"
#include "tests/support/tiny_models.h"

namespace darkroom::tools {
namespace {

namespace fs = std::filesystem;
using engine::DType;
using engine::SafetensorsFile;

class ModelWriter : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "darkroom-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path manifest(std::string_view text) {
    std::ofstream(folder_ / "manifest.json") << text;
    return folder_ / "manifest.json";
  }
  fs::path folder_;
};

// The formula of VECTORS.md, written out, in long double for the rounding.
std::uint16_t expected_weight(std::uint64_t key, std::uint64_t i, double scale, double offset) {
  std::uint64_t x = key + (i + 1) * 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  x ^= x >> 31;
  const double w = offset + scale * (2.0 * (static_cast<double>(x >> 40) / 16777216.0) - 1.0);
  // Nearest float16 by its spacing at this magnitude.
  const int exponent = std::max(std::ilogb(w == 0.0 ? 1.0 : w), -14);
  const double spacing = std::ldexp(1.0, exponent - 10);
  return engine::float_to_f16(static_cast<float>(std::nearbyint(w / spacing) * spacing));
}

TEST_F(ModelWriter, WeightsFollowTheFormula) {
  for (const auto& [scale, offset] : {std::pair(0.8, 0.0), {0.25, 1.0}, {1e-5, 0.0}, {3e-8, 0.0}, {0.216506351, 0.0}}) {
    const std::uint64_t key = weight_key(7, "conv_in.weight");
    std::vector<std::uint16_t> weights(10'000);
    seeded_weights(key, scale, offset, 5, weights);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      ASSERT_EQ(weights[i], expected_weight(key, i + 5, scale, offset)) << i << " at scale " << scale;
    }
  }
}

TEST_F(ModelWriter, TheKeyIsFnv1a) {
  // FNV-1a 64 of "1:a", worked out by hand from its definition.
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : std::string("1:a")) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  EXPECT_EQ(weight_key(1, "a"), hash);
}

TEST_F(ModelWriter, PartsAreJoinedAndTransposed) {
  const auto path = manifest(R"({"name": "x", "components": [{"folder": "", "file": "m.safetensors", "tensors": [
    {"name": "q", "shape": [1, 3], "seed": 1, "scale": 1.0, "offset": 0.0},
    {"name": "k", "shape": [1, 3], "seed": 1, "scale": 1.0, "offset": 0.0},
    {"name": "qk", "shape": [2, 3], "parts": [{"name": "q", "shape": [1, 3], "seed": 1, "scale": 1.0, "offset": 0.0},
                                             {"name": "k", "shape": [1, 3], "seed": 1, "scale": 1.0, "offset": 0.0}]},
    {"name": "t", "shape": [3, 2], "transpose": true, "parts": [{"name": "q", "shape": [1, 3], "seed": 1, "scale": 1.0, "offset": 0.0},
                                             {"name": "k", "shape": [1, 3], "seed": 1, "scale": 1.0, "offset": 0.0}]}]}]})");
  ASSERT_TRUE(write_model(path, folder_ / "out"));
  const auto file = value_or_throw(SafetensorsFile::open(folder_ / "out" / "m.safetensors"));
  const auto halves = [&](const char* name) {
    const engine::HostTensor* tensor = file.find(name);
    std::vector<std::uint16_t> values(static_cast<std::size_t>(tensor->elements()));
    std::memcpy(values.data(), tensor->data, tensor->bytes());
    return values;
  };
  const auto q = halves("q"), k = halves("k");
  EXPECT_THAT(halves("qk"), testing::ElementsAre(q[0], q[1], q[2], k[0], k[1], k[2]));
  EXPECT_THAT(halves("t"), testing::ElementsAre(q[0], k[0], q[1], k[1], q[2], k[2]));
}

TEST_F(ModelWriter, ThreadsDoNotChangeAByte) {
  const fs::path source = test::vectors_dir() / "models" / "tiny-vae-alt.json";
  ASSERT_TRUE(write_model(source, folder_ / "one.safetensors", {.threads = 1}));
  ASSERT_TRUE(write_model(source, folder_ / "five.safetensors", {.threads = 5}));
  const auto bytes = [](const fs::path& path) {
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  };
  EXPECT_TRUE(bytes(folder_ / "one.safetensors") == bytes(folder_ / "five.safetensors"));
}

TEST_F(ModelWriter, OtherTypesHoldTheSameFloat16Values) {
  const fs::path source = test::vectors_dir() / "models" / "tiny-vae-alt.json";
  ASSERT_TRUE(write_model(source, folder_ / "f16.safetensors"));
  ASSERT_TRUE(write_model(source, folder_ / "f32.safetensors", {.dtype = DType::f32}));
  const auto half = value_or_throw(SafetensorsFile::open(folder_ / "f16.safetensors"));
  const auto full = value_or_throw(SafetensorsFile::open(folder_ / "f32.safetensors"));
  for (const auto& tensor : half.tensors()) {
    const auto* wide = full.find(tensor.name);
    ASSERT_NE(wide, nullptr);
    const auto count = static_cast<std::size_t>(tensor.elements());
    std::vector<float> a(count), b(count);
    engine::to_float(tensor.dtype, tensor.data, a.data(), count);
    engine::to_float(wide->dtype, wide->data, b.data(), count);
    ASSERT_EQ(a, b) << tensor.name;
  }
}

TEST_F(ModelWriter, AManifestThatLeadsOutOfTheFolderIsRefused) {
  const auto path = manifest(R"({"components": [{"folder": "../x", "file": "m.safetensors", "tensors": []}]})");
  EXPECT_EQ(write_model(path, folder_ / "out").error().code, ErrorCode::corrupt_data);
  EXPECT_EQ(write_model(manifest("[]"), folder_ / "out").error().code, ErrorCode::corrupt_data);
  EXPECT_EQ(write_model(folder_ / "none.json", folder_ / "out").error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace darkroom::tools
