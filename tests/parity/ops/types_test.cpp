// Which type a backend holds for its fastest.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

// The answer decides what `auto` computes in, so pictures depend on it: each backend of a machine must give the same.
TEST(Types, TheFasterOneIsTheSameForEveryBackendOfAnInstructionSet) {
  for (const std::string& set : available_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto backend = make_cpu_backend({.threads = 1, .instruction_set = set});
    const auto other = make_cpu_backend({.threads = 3, .instruction_set = set});
    EXPECT_EQ(backend->fast_float(), other->fast_float());
    EXPECT_TRUE(backend->has_fast(DType::f32));
    if (set == "amx") {
      EXPECT_EQ(backend->fast_float(), DType::bf16);
    } else if (set != "avx512bf16") {
      EXPECT_EQ(backend->fast_float(), DType::f32);
    }
  }
  EXPECT_EQ(ref().fast_float(), DType::f32);
}

TEST(Types, LayersOfEightBitsAreAmongTheFasterOnes) {
  for (const std::string& set : available_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto backend = make_cpu_backend({.threads = 1, .instruction_set = set});
    EXPECT_EQ(backend->activation_type(DType::i8), backend->fast_float());
    EXPECT_EQ(backend->activation_type(DType::f32), DType::f32);
    EXPECT_EQ(backend->activation_type(DType::bf16), DType::bf16);
  }
}

TEST(Types, ProductsBetweenRegistersAreCounted) {
  EXPECT_GT(bare_product_rate(DType::f32, 1, 1), 0.1);
  const std::string best = available_instruction_sets().front();
  const bool has_bf16 = best == "amx" || best == "avx512bf16";
  EXPECT_EQ(bare_product_rate(DType::bf16, 1, 1) > 0, has_bf16);
}

}  // namespace
}  // namespace darkroom::engine
