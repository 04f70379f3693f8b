// Attention, the fast backend against the plain one.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

struct AttentionCase {
  std::int64_t pictures = 1, queries = 0, keys = 0;
  int heads = 1;
  std::int64_t width = 64;  // of a head
  DType type = DType::bf16;
  DType y = DType::f32;
  bool causal = false;
  float spread = 1.0F;  // of the queries: large ones make one weight take all
};

std::ostream& operator<<(std::ostream& out, const AttentionCase& c) {
  return out << c.pictures << " pictures, " << c.queries << " queries, " << c.keys << " keys, " << c.heads
             << " heads of " << c.width << ' ' << to_string(c.type) << (c.causal ? " causal" : "");
}

class AttentionParity : public testing::TestWithParam<AttentionCase> {};

// Queries, keys and values side by side, as one linear layer makes them.
Tensor run(Backend& backend, const AttentionCase& c, std::int64_t first, std::int64_t count) {
  const std::int64_t channels = c.heads * c.width;
  const Tensor q = strided(backend, random_normal({c.pictures, c.queries, channels}, 1, c.spread),
                           {c.pictures, c.queries, channels}, c.type, 2 * channels);
  const Tensor k = strided(backend, random_normal({c.pictures, c.keys, channels}, 2), {c.pictures, c.keys, channels},
                           c.type, channels);
  const Tensor v =
      strided(backend, random_normal({c.pictures, c.keys, channels}, 3), {c.pictures, c.keys, channels}, c.type, 0);
  return attention(
      q.slice_batch(first, count), k.slice_batch(first, count), v.slice_batch(first, count),
      {.heads = c.heads, .scale = 1.0F / std::sqrt(static_cast<float>(c.width)), .causal = c.causal, .out = c.y});
}

TEST_P(AttentionParity, AgreesWithReference) {
  const AttentionCase c = GetParam();
  const double limit = c.type == DType::bf16 ? kWeights : limit_for(c.y);
  expect_parity(limit, [&](Backend& backend) { return run(backend, c, 0, c.pictures); });
}

constexpr DType kF32 = DType::f32;

INSTANTIATE_TEST_SUITE_P(
    SdxlShapes, AttentionParity,
    testing::Values(AttentionCase{.pictures = 2, .queries = 256, .keys = 256, .heads = 10, .y = DType::bf16},
                    AttentionCase{.queries = 1024, .keys = 1024, .heads = 2},
                    AttentionCase{.queries = 512, .keys = 512, .heads = 2, .type = kF32},
                    AttentionCase{.pictures = 2, .queries = 256, .keys = 77, .heads = 20, .y = DType::bf16},
                    AttentionCase{.queries = 100, .keys = 77, .heads = 10, .type = kF32},
                    AttentionCase{.queries = 77, .keys = 77, .heads = 12, .causal = true},
                    AttentionCase{.queries = 77, .keys = 77, .heads = 20, .type = kF32, .causal = true},
                    AttentionCase{.queries = 600, .keys = 600, .width = 512},
                    AttentionCase{.queries = 300, .keys = 600, .width = 512, .type = kF32},
                    AttentionCase{.queries = 153, .keys = 153, .heads = 2}));

INSTANTIATE_TEST_SUITE_P(
    OddShapes, AttentionParity,
    testing::Values(AttentionCase{.queries = 1, .keys = 1},
                    AttentionCase{.queries = 3, .keys = 5, .width = 1, .type = kF32},
                    AttentionCase{.queries = 7, .keys = 33, .heads = 3, .width = 40},
                    AttentionCase{.queries = 65, .keys = 129, .heads = 2, .width = 160, .type = kF32},
                    AttentionCase{.queries = 65, .keys = 129, .heads = 2, .width = 80},
                    AttentionCase{.queries = 65, .keys = 129, .heads = 2, .width = 33},
                    AttentionCase{.queries = 200, .keys = 200, .width = 10, .causal = true},
                    AttentionCase{.queries = 50, .keys = 1500, .heads = 2, .spread = 30.0F},
                    AttentionCase{.queries = 50, .keys = 1500, .heads = 2, .type = kF32, .spread = 30.0F}));

TEST(Attention, PicturesDoNotDependOnTheirBatchOrTheThreads) {
  for (const DType type : {kF32, DType::bf16}) {
    const AttentionCase c{.pictures = 3, .queries = 150, .keys = 700, .heads = 3, .type = type, .spread = 50.0F};
    expect_independence(
        [&](Backend& backend, std::int64_t first, std::int64_t count) { return run(backend, c, first, count); });
  }
}

TEST(Attention, ScoresFarFromZeroNeitherOverflowNorVanish) {
  for (const float shift : {-3000.0F, 3000.0F}) {
    expect_parity(kSums, [&](Backend& backend) {
      const std::vector<float> ones(std::size_t{20} * 8, 1.0F);
      std::vector<float> keys = random_normal({40, 8}, 1);
      for (float& key : keys) key += shift / 8;
      return attention(from_host(backend, ones, {1, 20, 8}), from_host(backend, keys, {1, 40, 8}),
                       from_host(backend, random_normal({40, 8}, 2), {1, 40, 8}), {.heads = 1, .scale = 1.0F});
    });
  }
}

// A later block's scores are so much larger that a weight by what was largest before would be beyond floating point,
// for every query or for some.
TEST(Attention, ScoresThatGrowTakeAllWeight) {
  constexpr std::int64_t kQueries = 20;
  constexpr std::int64_t kKeys = 700;
  for (const DType type : {kF32, DType::bf16}) {
    for (const float step : {0.01F, 0.5F, 4.0F, -4.0F}) {
      expect_parity(type == kF32 ? kSums : kWeights, [&](Backend& backend) {
        std::vector<float> queries(kQueries * 8);
        for (std::size_t i = 0; i < queries.size(); i += 8) queries[i] = static_cast<float>(i % 24) / 8;
        std::vector<float> keys = random_normal({kKeys, 8}, 1);
        for (std::size_t i = 0; i < keys.size(); i += 8) keys[i] = step * static_cast<float>(i / 8);
        return attention(
            from_host(backend, queries, {1, kQueries, 8}, type), from_host(backend, keys, {1, kKeys, 8}, type),
            from_host(backend, random_normal({kKeys, 8}, 2), {1, kKeys, 8}, type), {.heads = 1, .scale = 1.0F});
      });
    }
  }
}

}  // namespace
}  // namespace darkroom::engine
