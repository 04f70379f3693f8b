// Weights that get a product of small matrices added while they are laid out: the same as those that had it before.
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

// Parts of one weight, each with a product of its own depth; none where that is 0.
class SumWeight {
 public:
  SumWeight(const Shape& row_shape, std::vector<std::pair<std::int64_t, std::int64_t>> rows_and_depths) {
    unsigned seed = 1;
    for (const auto& [rows, depth] : rows_and_depths) {
      Shape shape =
          row_shape.rank() == 1 ? Shape{rows, row_shape[0]} : Shape{rows, row_shape[0], row_shape[1], row_shape[2]};
      const std::int64_t columns = shape.elements() / rows;
      const float deviation = 1.0F / std::sqrt(static_cast<float>(columns));
      Part& part = parts_.emplace_back();
      part.shape = shape;
      part.values = random_normal(shape, seed++, deviation);
      part.depth = depth;
      part.left = random_normal({rows, std::max<std::int64_t>(depth, 1)}, seed++);
      part.right = random_normal({std::max<std::int64_t>(depth, 1), columns}, seed++, deviation);
    }
  }

  std::shared_ptr<const PackedWeight> pack(Backend& backend, WeightUse use, DType compute) const {
    PackRequest request{.use = use, .compute = compute, .parts = {}};
    for (const Part& part : parts_) {
      const LowRankProduct product{shared(part.left), shared(part.right), part.depth};
      request.parts.push_back({tensor(part, part.values), part.depth > 0 ? product : LowRankProduct{}});
    }
    return backend.pack(request);
  }

  // The same, added up before.
  std::shared_ptr<const PackedWeight> pack_added(Backend& backend, WeightUse use, DType compute) const {
    std::vector<std::vector<float>> sums;
    PackRequest request{.use = use, .compute = compute, .parts = {}};
    for (const Part& part : parts_) {
      const std::int64_t columns = part.shape.elements() / part.shape[0];
      std::vector<float>& sum = sums.emplace_back(part.values);
      for (std::int64_t i = 0; i < part.shape.elements(); ++i) {
        double added = 0;
        for (std::int64_t d = 0; d < part.depth; ++d) {
          added += static_cast<double>(part.left[static_cast<std::size_t>(i / columns * part.depth + d)]) *
                   part.right[static_cast<std::size_t>(d * columns + i % columns)];
        }
        sum[static_cast<std::size_t>(i)] += static_cast<float>(added);
      }
      request.parts.push_back({tensor(part, sum), {}});
    }
    return backend.pack(request);
  }

 private:
  struct Part {
    Shape shape;
    std::vector<float> values, left, right;
    std::int64_t depth = 0;
  };
  static std::shared_ptr<const float[]> shared(const std::vector<float>& values) {
    return {std::shared_ptr<const float[]>(), values.data()};
  }
  static HostTensor tensor(const Part& part, const std::vector<float>& values) {
    return {.name = "part",
            .dtype = DType::f32,
            .shape = part.shape,
            .data = reinterpret_cast<const std::byte*>(values.data()),
            .owner = nullptr};
  }

  std::vector<Part> parts_;
};

// Runs `op` (Backend&, weight → Tensor) plainly with what was added up before, and on all instruction sets with what is
// added on the way, in every compute type they have.
template <class Op>
void expect_sums(const SumWeight& weight, WeightUse use, const Op& op) {
  const std::vector<float> want = to_host(op(ref(), *weight.pack_added(ref(), use, DType::f32)));
  EXPECT_LT(nmse(to_host(op(ref(), *weight.pack(ref(), use, DType::f32))), want), kSums);
  for (const std::string& set : available_instruction_sets()) {
    const auto backend = make_cpu_backend({.threads = 2, .instruction_set = set});
    for (const DType compute : {DType::f32, DType::bf16, DType::i8}) {
      if (compute == DType::i8 && !backend->has_fast(DType::i8)) continue;
      SCOPED_TRACE(fmt::format("{} {}", set, to_string(compute)));
      // The roundings of bfloat16 and int8, which the weight goes through last in either way.
      const double limit = compute == DType::f32 ? kSums : 2e-4;
      EXPECT_LT(nmse(to_host(op(*backend, *weight.pack(*backend, use, compute))), want), limit);
    }
  }
}

TEST(Pack, AddsTheProductsOfItsParts) {
  for (const auto& [columns, parts] :
       {std::pair<std::int64_t, std::vector<std::pair<std::int64_t, std::int64_t>>>{640, {{64, 16}}},
        {640, {{32, 4}, {32, 0}, {32, 40}}},
        {2048, {{40, 1}}},
        {333, {{17, 3}, {3, 0}, {28, 17}}},
        {5, {{1, 2}}}}) {
    SCOPED_TRACE(fmt::format("{} columns, {} parts", columns, parts.size()));
    const SumWeight weight({columns}, parts);
    expect_sums(weight, WeightUse::linear, [&](Backend& backend, const PackedWeight& packed) {
      return linear(from_host(backend, random_normal({9, columns}, 90), {9, columns}), packed, {});
    });
  }
}

TEST(Pack, AddsThemToValuesAndGates) {
  const SumWeight weight({100}, {{94, 9}});
  expect_sums(weight, WeightUse::linear_geglu, [&](Backend& backend, const PackedWeight& packed) {
    return linear(from_host(backend, random_normal({9, 100}, 90), {9, 100}), packed, {});
  });
}

TEST(Pack, AddsThemToConvolutions) {
  for (const auto& [channels, outputs] : {std::pair<std::int64_t, std::int64_t>{64, 40}, {7, 3}, {33, 65}}) {
    SCOPED_TRACE(fmt::format("{} to {}", channels, outputs));
    const SumWeight weight({channels, 3, 3}, {{outputs, 20}});
    expect_sums(weight, WeightUse::conv2d, [&](Backend& backend, const PackedWeight& packed) {
      return conv2d(from_host(backend, random_normal({2, 5, 6, channels}, 90), {2, 5, 6, channels}), packed,
                    {.padding = {1, 1, 1, 1}});
    });
  }
}

}  // namespace
}  // namespace darkroom::engine
