// Random numbers against torch's CPU generator.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/sampling/random.h"
#include "engine/weights/safetensors.h"
#include "tests/support/vectors.h"

namespace darkroom::engine {
namespace {

using test::Vectors;

const std::string kFile = "rng/torch_cpu_randn.safetensors";

std::vector<std::string> names_with_prefix(const std::string& prefix) {
  const auto file = value_or_throw(
      SafetensorsFile::open(std::string(DARKROOM_SOURCE_DIR) + "/tests/reference/vectors/" + kFile));
  std::vector<std::string> names;
  for (const HostTensor& tensor : file.tensors()) {
    if (tensor.name.starts_with(prefix)) names.push_back(tensor.name);
  }
  std::ranges::sort(names);
  return names;
}

void expect_drawn(TorchGenerator& generator, const test::Vector& expected, const std::string& name) {
  std::vector<float> drawn(expected.values.size());
  generator.randn(drawn);
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    ASSERT_NEAR(drawn[i], expected.values[i], 1e-6) << name << ", element " << i;  // as VECTORS.md says
  }
}

TEST(RandomReference, EverySeedAndSizeGivesTorchsNumbers) {
  const Vectors vectors = Vectors::open(kFile);
  const auto names = names_with_prefix("randn_");
  ASSERT_FALSE(names.empty());
  for (const std::string& name : names) {
    const std::size_t seed_at = std::string("randn_").size();
    TorchGenerator generator(std::stoull(name.substr(seed_at, name.rfind('_') - seed_at)));
    expect_drawn(generator, vectors.get(name), name);
  }
}

TEST(RandomReference, SuccessiveDrawsContinueTorchsStream) {
  const Vectors vectors = Vectors::open(kFile);
  const auto names = names_with_prefix("stream_7_");
  ASSERT_FALSE(names.empty());
  TorchGenerator generator(7);
  for (const std::string& name : names) expect_drawn(generator, vectors.get(name), name);
}

}  // namespace
}  // namespace darkroom::engine
