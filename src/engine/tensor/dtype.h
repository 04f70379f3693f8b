// Element types, those of files and those we compute with.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace darkroom::engine {

enum class DType : std::uint8_t { f64, f32, bf16, f16, f8_e4m3, f8_e5m2, i64, i32, i16, i8, u8, boolean };

// Bytes of one element.
std::size_t size_of(DType type);
std::string_view to_string(DType type);
// Whether to_float() knows it: f64, f32, bf16, f16 and the two f8.
bool is_floating(DType type);

// bfloat16: the upper half of a float32.
inline float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
// Rounds to nearest even; NaN stays NaN.
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}
// IEEE binary16, exact.
float f16_to_float(std::uint16_t bits);
// Rounds to nearest even, overflows to infinity.
std::uint16_t float_to_f16(float value);
// OCP 8-bit floats: e4m3 (no infinity, 0x7F is NaN) and e5m2 (IEEE-like).
float f8_e4m3_to_float(std::uint8_t bits);
float f8_e5m2_to_float(std::uint8_t bits);

// Converts `count` elements of a floating type to float32.
void to_float(DType type, const std::byte* source, float* destination, std::size_t count);

}  // namespace darkroom::engine
