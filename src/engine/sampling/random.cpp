#include "engine/sampling/random.h"

#include <cmath>
#include <cstddef>
#include <numbers>

namespace darkroom::engine {

namespace {

constexpr std::size_t kBlock = 16;  // normals made at once from as many uniforms

// Box-Muller on a block of uniforms: the first half are the radii, the second the angles.
void normal_block(std::span<float, kBlock> block) {
  constexpr std::size_t half = kBlock / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const float u1 = 1.0F - block[i];  // (0, 1], so that the logarithm is finite
    const float u2 = block[i + half];
    const float radius = std::sqrt(-2.0F * std::log(u1));
    const float theta = 2.0F * std::numbers::pi_v<float> * u2;
    block[i] = radius * std::cos(theta);
    block[i + half] = radius * std::sin(theta);
  }
}

}  // namespace

TorchGenerator::TorchGenerator(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}

float TorchGenerator::uniform_float() {
  return static_cast<float>(engine_() & ((1U << 24) - 1)) * 0x1p-24F;
}

double TorchGenerator::uniform_double() {
  const std::uint64_t high = engine_();
  const std::uint64_t low = engine_();
  return static_cast<double>((high << 32 | low) & ((1ULL << 53) - 1)) * 0x1p-53;
}

double TorchGenerator::normal() {
  if (next_normal_) {
    const double value = *next_normal_;
    next_normal_.reset();
    return value;
  }
  const double u1 = uniform_double();
  const double u2 = uniform_double();
  const double radius = std::sqrt(-2.0 * std::log1p(-u2));
  const double theta = 2.0 * std::numbers::pi * u1;
  next_normal_ = radius * std::sin(theta);
  return radius * std::cos(theta);
}

void TorchGenerator::randn(std::span<float> out) {
  if (out.size() < kBlock) {
    for (float& x : out) x = static_cast<float>(normal());
    return;
  }
  for (float& x : out) x = uniform_float();
  for (std::size_t i = 0; i + kBlock <= out.size(); i += kBlock) normal_block(out.subspan(i).first<kBlock>());
  if (out.size() % kBlock != 0) {
    // compat(torch): the last 16 are drawn anew, over some that are finished.
    const std::span<float, kBlock> last = out.last<kBlock>();
    for (float& x : last) x = uniform_float();
    normal_block(last);
  }
}

}  // namespace darkroom::engine
