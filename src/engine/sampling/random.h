// torch's CPU random numbers: mt19937 and the two ways that at::normal_ makes float32 normals of them.
// https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/cpu/DistributionTemplates.h
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>

namespace darkroom::engine {

// torch.Generator("cpu").manual_seed(seed): the same seed gives the same pictures as diffusers on a CPU.
class TorchGenerator {
 public:
  // compat(torch): mt19937 has a 32-bit seed; the upper half of `seed` is ignored.
  explicit TorchGenerator(std::uint64_t seed);

  // As torch.randn(out.size(), generator=…): standard normal. The numbers depend on how many are drawn at once.
  void randn(std::span<float> out);

 private:
  float uniform_float();    // [0, 1), 24 bits
  double uniform_double();  // [0, 1), 53 bits
  double normal();

  std::mt19937 engine_;
  std::optional<double> next_normal_;  // second of the last pair that normal() made
};

}  // namespace darkroom::engine
