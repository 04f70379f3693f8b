// Element-by-element operations, the fast backend against the plain one, and what both promise about memory.
#include <limits>

#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

constexpr DType kF32 = DType::f32;
constexpr DType kBf16 = DType::bf16;

TEST(Activate, AgreesWithReferenceForEveryFunctionAndType) {
  for (const Activation activation : {Activation::none, Activation::silu, Activation::gelu, Activation::quick_gelu,
                                      Activation::relu, Activation::leaky_relu}) {
    for (const DType x : {kF32, kBf16}) {
      for (const DType y : {kF32, kBf16}) {
        for (const std::int64_t gap : {0, 3}) {
          SCOPED_TRACE(
              fmt::format("activation {}, {} to {}", static_cast<int>(activation), to_string(x), to_string(y)));
          expect_parity(limit_for(y), [&](Backend& backend) {
            return activate(strided(backend, random_normal({7, 45}, 1, 3.0F), {7, 45}, x, gap), activation, y);
          });
        }
      }
    }
  }
}

// Against double precision, on a grid that ends where float32 does: 2e-6 of the result, or of the smallest that
// matters, is ten times the rounding of the formulas' own steps.
TEST(Activate, IsRightOverTheWholeRange) {
  std::vector<float> x;
  for (int step = -1000; step < 1300; ++step) {
    const float magnitude = std::pow(1.07F, static_cast<float>(step));
    x.push_back(magnitude);
    x.push_back(-magnitude);
  }
  const auto exact = [](Activation activation, double v) {
    switch (activation) {
      case Activation::silu:
        return v / (1 + std::exp(-v));
      case Activation::quick_gelu:
        return v / (1 + std::exp(-1.702 * v));
      default:
        return 0.5 * v * std::erfc(-v * std::sqrt(0.5));
    }
  };
  for (const std::string& set : available_instruction_sets()) {
    const auto backend = make_cpu_backend({.threads = 1, .instruction_set = set});
    for (const Activation activation : {Activation::silu, Activation::gelu, Activation::quick_gelu}) {
      SCOPED_TRACE(fmt::format("{}, activation {}", set, static_cast<int>(activation)));
      const std::vector<float> y =
          to_host(activate(from_host(*backend, x, {static_cast<std::int64_t>(x.size())}), activation, kF32));
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double want = exact(activation, x[i]);
        ASSERT_NEAR(y[i], want, 2e-6 * std::max(std::abs(want), std::min(1.0, std::abs(static_cast<double>(x[i])))))
            << "at " << x[i];
      }
    }
  }
}

TEST(Activate, RoundsToNearestEvenAndKeepsWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x{
      1.0F + 0x1p-8F, 1.0F + 0x1p-8F + 0x1p-7F,         1.0F + 0x1p-8F + 0x1p-20F, -0.0F, infinity, -infinity,
      std::nanf(""),  std::numeric_limits<float>::max()};
  for (const std::string& set : available_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto backend = make_cpu_backend({.threads = 1, .instruction_set = set});
    const Tensor y =
        activate(from_host(*backend, x, {1, static_cast<std::int64_t>(x.size())}), Activation::none, kBf16);
    std::vector<std::uint16_t> bits(x.size());
    backend->download(y, bits.data());
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        EXPECT_TRUE(std::isnan(bf16_to_float(bits[i])));
      } else {
        EXPECT_EQ(bits[i], float_to_bf16(x[i])) << "of " << x[i];
      }
    }
  }
}

TEST(Add, AgreesWithReferenceAndMayWriteOverItsInputs) {
  for (const DType a : {kF32, kBf16}) {
    for (const DType b : {kF32, kBf16}) {
      for (const std::int64_t gap : {0, 5}) {
        SCOPED_TRACE(fmt::format("{} and {}", to_string(a), to_string(b)));
        expect_parity(limit_for(a), [&](Backend& backend) {
          Tensor x = strided(backend, random_normal({9, 37}, 1), {9, 37}, a, gap);
          const Tensor y = strided(backend, random_normal({9, 37}, 2), {9, 37}, b, gap);
          add_into(x, 0.7F, y, -1.3F, x);
          return x;
        });
      }
    }
  }
}

TEST(UpsampleNearest, AgreesWithReferenceAlsoOneRowOrColumnShort) {
  for (const DType type : {kF32, kBf16}) {
    for (const std::int64_t height : {9, 10}) {
      for (const std::int64_t width : {13, 14}) {
        expect_parity(0x1p-60, [&](Backend& backend) {
          return upsample_nearest2x(strided(backend, random_normal({2, 5, 7, 19}, 1), {2, 5, 7, 19}, type, 3), height,
                                    width);
        });
      }
    }
  }
}

TEST(AllFinite, FindsOneInfinityOrNanAnywhere) {
  std::vector<float> values = random_normal({40, 37}, 1);
  values[0] = std::numeric_limits<float>::max();
  for (const std::string& set : available_instruction_sets()) {
    const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
    for (const DType type : {kF32, kBf16}) {
      values[0] = 1e38F;
      EXPECT_TRUE(all_finite(from_host(*backend, values, {40, 37}, type)));
      for (const float bad :
           {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), std::nanf("")}) {
        for (const std::size_t at : {std::size_t{0}, std::size_t{36}, values.size() - 1}) {
          std::vector<float> spoilt = values;
          spoilt[at] = bad;
          EXPECT_FALSE(all_finite(from_host(*backend, spoilt, {40, 37}, type))) << set << " at " << at;
        }
      }
      // Elements between strided rows are nobody's.
      EXPECT_TRUE(all_finite(strided(*backend, values, {40, 37}, type, 3)));
    }
  }
}

TEST(CpuBackend, MemoryIsAlignedReusedAndRefusedWithAFailure) {
  const auto backend = make_cpu_backend();
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, std::size_t{3} << 20U}) {
    const auto buffer = backend->allocate(bytes);
    EXPECT_GE(buffer->bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer->data()) % 64, 0U);
  }
  const void* first = backend->allocate(std::size_t{5} << 20U)->data();
  EXPECT_EQ(backend->allocate(std::size_t{5} << 20U)->data(), first);
  try {
    backend->allocate(std::size_t{1} << 60U);
    FAIL() << "2^60 bytes were given";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::out_of_memory);
  }
}

TEST(CpuBackend, RefusesInstructionSetsThatItLacks) {
  try {
    make_cpu_backend({.threads = 1, .instruction_set = "avx1024"});
    FAIL() << "avx1024 was accepted";
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(failure.error().message.find("avx1024"), std::string::npos);
  }
}

}  // namespace
}  // namespace darkroom::engine
