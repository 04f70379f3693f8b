// Weights that get a product of small matrices added while they are laid out: the same as those that had it before.
#include <array>
#include <cstring>

#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

// Random numbers as a file of some type has them.
class FileNumbers {
 public:
  FileNumbers(DType type, const Shape& shape, unsigned seed, float deviation)
      : type_(type), shape_(shape), bytes_(static_cast<std::size_t>(shape.elements()) * size_of(type)) {
    const std::vector<float> values = random_normal(shape, seed, deviation);
    for (std::size_t i = 0; i < values.size(); ++i) {
      switch (type) {
        case DType::f64:
          set(i, static_cast<double>(values[i]));
          break;
        case DType::f16:
          set(i, float_to_f16(values[i]));
          break;
        case DType::bf16:
          set(i, float_to_bf16(values[i]));
          break;
        case DType::f8_e4m3:  // any finite bytes do
          set(i, static_cast<std::uint8_t>(float_to_f16(values[i]) >> 8U & 0xBFU));
          break;
        default:
          set(i, values[i]);
      }
    }
  }

  HostTensor tensor() const {
    return {.name = "numbers", .dtype = type_, .shape = shape_, .data = bytes_.data(), .owner = nullptr};
  }
  std::vector<float> floats() const {
    std::vector<float> values(static_cast<std::size_t>(shape_.elements()));
    to_float(type_, bytes_.data(), values.data(), values.size());
    return values;
  }

 private:
  template <class T>
  void set(std::size_t i, T value) {
    std::memcpy(bytes_.data() + i * sizeof value, &value, sizeof value);
  }

  DType type_;
  Shape shape_;
  std::vector<std::byte> bytes_;
};

// A part's rows, and the depths of the products that it gets.
struct PartShape {
  std::int64_t rows = 0;
  std::vector<std::int64_t> depths;
};

// Parts of one weight, with small matrices in every type that files have.
class SumWeight {
 public:
  // types: of the parts, by turns
  SumWeight(const Shape& row_shape, const std::vector<PartShape>& parts, const std::vector<DType>& types) {
    constexpr std::array kTypes{DType::f16, DType::f32, DType::bf16, DType::f8_e4m3, DType::f64};
    unsigned seed = 1;
    for (const auto& [rows, depths] : parts) {
      const Shape shape =
          row_shape.rank() == 1 ? Shape{rows, row_shape[0]} : Shape{rows, row_shape[0], row_shape[1], row_shape[2]};
      const std::int64_t columns = shape.elements() / rows;
      const float deviation = 1.0F / std::sqrt(static_cast<float>(columns));
      const DType type = types[parts_.size() % types.size()];
      Part& part = parts_.emplace_back(Part{shape, FileNumbers(type, shape, seed++, deviation), {}});
      for (const std::int64_t depth : depths) {
        const DType left = kTypes[seed % kTypes.size()];
        const DType right = kTypes[(seed + 1) % kTypes.size()];
        part.products.push_back({FileNumbers(left, {rows, depth}, seed, 1.0F),
                                 FileNumbers(right, {depth, columns}, seed + 1, deviation),
                                 0.5F * static_cast<float>(seed)});
        seed += 3;
      }
    }
  }

  std::shared_ptr<const PackedWeight> pack(Backend& backend, WeightUse use, DType compute) const {
    PackRequest request{.use = use, .compute = compute, .parts = {}};
    for (const Part& part : parts_) {
      TensorSum& sum = request.parts.emplace_back(TensorSum{part.values.tensor(), {}});
      for (const Product& product : part.products) {
        sum.products.push_back({product.left.tensor(), product.right.tensor(), product.scale});
      }
    }
    return backend.pack(request);
  }

  // The same, added up before.
  std::shared_ptr<const PackedWeight> pack_added(Backend& backend, WeightUse use, DType compute) const {
    std::vector<std::vector<float>> sums;
    PackRequest request{.use = use, .compute = compute, .parts = {}};
    for (const Part& part : parts_) {
      const std::vector<float> values = part.values.floats();
      std::vector<double> sum(values.begin(), values.end());
      for (const Product& product : part.products) add(product, part.shape, sum);
      request.parts.push_back({tensor(part.shape, sums.emplace_back(sum.begin(), sum.end())), {}});
    }
    return backend.pack(request);
  }

 private:
  struct Product {
    FileNumbers left, right;
    float scale;
  };
  struct Part {
    Shape shape;
    FileNumbers values;
    std::vector<Product> products;
  };
  static void add(const Product& product, const Shape& shape, std::vector<double>& sum) {
    const std::vector<float> left = product.left.floats();
    const std::vector<float> right = product.right.floats();
    const auto rows = static_cast<std::size_t>(shape[0]);
    const std::size_t depth = left.size() / rows;
    const std::size_t columns = sum.size() / rows;
    for (std::size_t i = 0; i < sum.size(); ++i) {
      for (std::size_t d = 0; d < depth; ++d) {
        sum[i] += static_cast<double>(product.scale) * left[i / columns * depth + d] * right[d * columns + i % columns];
      }
    }
  }
  static HostTensor tensor(const Shape& shape, const std::vector<float>& values) {
    return {.name = "part",
            .dtype = DType::f32,
            .shape = shape,
            .data = reinterpret_cast<const std::byte*>(values.data()),
            .owner = nullptr};
  }

  std::vector<Part> parts_;
};

// Runs `op` (Backend&, weight → Tensor) plainly with what was added up before, and on all instruction sets with what is
// added on the way, in every compute type they have.
template <class Op>
void expect_sum(const SumWeight& weight, WeightUse use, const Op& op) {
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

// The same for parts in every type that files have, alike and mixed.
template <class Op>
void expect_sums(const Shape& row_shape, const std::vector<PartShape>& parts, WeightUse use, const Op& op) {
  for (const std::vector<DType>& types : std::vector<std::vector<DType>>{
           {DType::f16}, {DType::bf16}, {DType::f32}, {DType::f8_e4m3}, {DType::f16, DType::bf16, DType::f64}}) {
    SCOPED_TRACE(fmt::format("in {} and {} others", to_string(types.front()), types.size() - 1));
    expect_sum(SumWeight(row_shape, parts, types), use, op);
  }
}

TEST(Pack, AddsTheProductsOfItsParts) {
  for (const auto& [columns, parts] : {std::pair<std::int64_t, std::vector<PartShape>>{640, {{64, {16}}}},
                                       {640, {{32, {4}}, {32, {}}, {32, {40}}}},
                                       {640, {{64, {16, 16, 5}}, {33, {70, 1, 64, 60}}}},
                                       {2048, {{40, {1}}}},
                                       {333, {{17, {3, 2, 1}}, {3, {}}, {28, {17}}}},
                                       {333, {{17, {}}, {3, {}}, {28, {}}}},
                                       {5, {{1, {2}}}}}) {
    SCOPED_TRACE(fmt::format("{} columns, {} parts", columns, parts.size()));
    expect_sums({columns}, parts, WeightUse::linear, [columns = columns](Backend& backend, const PackedWeight& packed) {
      return linear(from_host(backend, random_normal({9, columns}, 90), {9, columns}), packed, {});
    });
  }
}

TEST(Pack, AddsThemToValuesAndGates) {
  expect_sums({100}, {{94, {9, 3}}}, WeightUse::linear_geglu, [&](Backend& backend, const PackedWeight& packed) {
    return linear(from_host(backend, random_normal({9, 100}, 90), {9, 100}), packed, {});
  });
}

TEST(Pack, AddsThemToConvolutions) {
  for (const auto& [channels, outputs] : {std::pair<std::int64_t, std::int64_t>{64, 40}, {7, 3}, {33, 65}}) {
    SCOPED_TRACE(fmt::format("{} to {}", channels, outputs));
    expect_sums({channels, 3, 3}, {{outputs, {20, 60}}}, WeightUse::conv2d,
                [channels = channels](Backend& backend, const PackedWeight& packed) {
                  return conv2d(from_host(backend, random_normal({2, 5, 6, channels}, 90), {2, 5, 6, channels}), packed,
                                {.padding = {1, 1, 1, 1}});
                });
  }
}

}  // namespace
}  // namespace darkroom::engine
