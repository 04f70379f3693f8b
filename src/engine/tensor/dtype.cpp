#include "engine/tensor/dtype.h"

#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/error.h"

namespace darkroom::engine {

std::size_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
    case DType::i16:
      return 2;
    case DType::f8_e4m3:
    case DType::f8_e5m2:
    case DType::i8:
    case DType::u8:
    case DType::boolean:
      return 1;
  }
  return 1;
}

std::string_view to_string(DType type) {
  switch (type) {
    case DType::f64:
      return "float64";
    case DType::f32:
      return "float32";
    case DType::bf16:
      return "bfloat16";
    case DType::f16:
      return "float16";
    case DType::f8_e4m3:
      return "float8_e4m3";
    case DType::f8_e5m2:
      return "float8_e5m2";
    case DType::i64:
      return "int64";
    case DType::i32:
      return "int32";
    case DType::i16:
      return "int16";
    case DType::i8:
      return "int8";
    case DType::u8:
      return "uint8";
    case DType::boolean:
      return "bool";
  }
  return "unknown";
}

bool is_floating(DType type) {
  switch (type) {
    case DType::f64:
    case DType::f32:
    case DType::bf16:
    case DType::f16:
    case DType::f8_e4m3:
    case DType::f8_e5m2:
      return true;
    default:
      return false;
  }
}

float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
  const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);  // subnormal
  return sign != 0 ? -magnitude : magnitude;
}

std::uint16_t float_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude >= 0x7F800000U) return static_cast<std::uint16_t>(sign | (magnitude > 0x7F800000U ? 0x7E00U : 0x7C00U));
  if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // at least 2^16
  if (magnitude < 0x38800000U) {                                                    // below 2^-14: subnormal or zero
    const float scaled = std::bit_cast<float>(magnitude) * 16777216.0F;             // × 2^24, exact
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(scaled)));
  }
  const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

float f8_e4m3_to_float(std::uint8_t bits) {
  const float sign = (bits & 0x80U) != 0 ? -1.0F : 1.0F;
  const int exponent = (bits >> 3) & 0xF;
  const int mantissa = bits & 0x7;
  if (exponent == 0xF && mantissa == 0x7) return std::nanf("");
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

float f8_e5m2_to_float(std::uint8_t bits) { return f16_to_float(static_cast<std::uint16_t>(bits << 8)); }

namespace {

template <class Bits, class Convert>
void convert(const std::byte* source, float* destination, std::size_t count, Convert one) {
  for (std::size_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, source + i * sizeof(Bits), sizeof(Bits));
    destination[i] = one(bits);
  }
}

#if defined(__x86_64__)
// Every processor with AVX2 converts halves by itself.
__attribute__((target("avx2,f16c"))) void convert_halves(const std::byte* source, float* destination,
                                                         std::size_t count) {
  const std::size_t whole = count / 8 * 8;
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i * sizeof(std::uint16_t)));
    _mm256_storeu_ps(destination + i, _mm256_cvtph_ps(halves));
  }
  convert<std::uint16_t>(source + whole * sizeof(std::uint16_t), destination + whole, count - whole, f16_to_float);
}
#endif

}  // namespace

void to_float(DType type, const std::byte* source, float* destination, std::size_t count) {
  switch (type) {
    case DType::f64:
      return convert<double>(source, destination, count, [](double v) { return static_cast<float>(v); });
    case DType::f32:
      std::memcpy(destination, source, count * sizeof(float));
      return;
    case DType::bf16:
      return convert<std::uint16_t>(source, destination, count, bf16_to_float);
    case DType::f16:
#if defined(__x86_64__)
      if (__builtin_cpu_supports("avx2") != 0) return convert_halves(source, destination, count);
#endif
      return convert<std::uint16_t>(source, destination, count, f16_to_float);
    case DType::f8_e4m3:
      return convert<std::uint8_t>(source, destination, count, f8_e4m3_to_float);
    case DType::f8_e5m2:
      return convert<std::uint8_t>(source, destination, count, f8_e5m2_to_float);
    default:
      break;
  }
  DR_ASSERT(is_floating(type));
}

}  // namespace darkroom::engine
