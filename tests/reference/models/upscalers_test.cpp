// Upscalers against basicsr's networks (tests/reference/VECTORS.md), from every layout, on both backends.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ref/ref_backend.h"
#include "engine/models/upscaler.h"
#include "engine/pipeline/latents.h"
#include "tests/support/tiny_models.h"
#include "tests/support/vectors.h"

namespace darkroom::engine {
namespace {

struct Case {
  std::string device;
  std::string file;
  std::string vectors;  // "x2", "x4"
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.device << ' ' << c.file; }

class Upscalers : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Backend> backend_ = GetParam().device == "ref" ? make_ref_backend() : make_cpu_backend();

  // The file's result for the vectors' input, [3, H, W].
  std::vector<float> run(DType compute) {
    const test::Vectors vectors = test::Vectors::open("upscalers/io.safetensors");
    const test::Vector& in = vectors.get(GetParam().vectors + ".in");
    const auto part = value_or_throw(open_upscaler(test::vectors_dir() / "upscalers" / GetParam().file));
    Network network(*backend_);
    const auto model = make_upscaler(network, part, compute);
    std::vector<float> pixels(in.values.size());
    to_channels_last(in.values, 3, pixels);
    const std::vector<float> out = (*model)(pixels, static_cast<int>(in.shape[2]), static_cast<int>(in.shape[3]));
    std::vector<float> planes(out.size());
    to_channels_first(out, 3, planes);
    return planes;
  }

  static const std::vector<float>& wanted() {
    static const test::Vectors vectors = test::Vectors::open("upscalers/io.safetensors");
    return vectors.get(GetParam().vectors + ".out").values;
  }
};

// The largest difference over the largest value.
double relative(const std::vector<float>& got, const std::vector<float>& want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(got[i] - want[i])));
    largest = std::max(largest, static_cast<double>(std::abs(want[i])));
  }
  return worst / largest;
}

TEST_P(Upscalers, EnlargeAsBasicsrDoes) { EXPECT_LT(relative(run(DType::f32), wanted()), 1e-4); }

class FastUpscalers : public Upscalers {};

// Each of some dozen layers in a row rounds what it takes and gives by up to 2⁻⁸ of itself.
TEST_P(FastUpscalers, StayWithin35DecibelsInBfloat16) {
  const std::vector<float> got = run(DType::bf16);
  const std::vector<float>& want = wanted();
  ASSERT_EQ(got.size(), want.size());
  double squares = 0;
  double power = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    squares += (got[i] - want[i]) * (got[i] - want[i]);
    power += want[i] * want[i];
  }
  EXPECT_LT(squares, 3.16e-4 * power) << 10 * std::log10(power / squares) << " dB";
}

std::vector<Case> cases(const std::vector<std::string>& devices) {
  std::vector<Case> all;
  for (const std::string& device : devices) {
    all.push_back({device, "esrgan-x4-old-keys.safetensors", "x4"});
    all.push_back({device, "realesrgan-x4-new-keys.safetensors", "x4"});
    all.push_back({device, "realesrgan-x4.pth", "x4"});
    all.push_back({device, "realesrgan-x2-new-keys.safetensors", "x2"});
  }
  return all;
}

std::string name_of(const testing::TestParamInfo<Case>& test) {
  std::string name = test.param.device + "_" + test.param.file;
  std::ranges::replace_if(
      name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Files, Upscalers, testing::ValuesIn(cases({"ref", "cpu"})), name_of);
INSTANTIATE_TEST_SUITE_P(Files, FastUpscalers, testing::ValuesIn(cases({"cpu"})), name_of);

}  // namespace
}  // namespace darkroom::engine
