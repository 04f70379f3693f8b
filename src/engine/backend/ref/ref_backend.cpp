#include "engine/backend/ref/ref_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <numbers>
#include <span>

#include "base/error.h"

namespace darkroom::engine {
namespace {

class RefBuffer final : public Buffer {
 public:
  RefBuffer(Backend& backend, std::size_t bytes)
      : Buffer(backend, ::operator new (std::max<std::size_t>(bytes, 1), std::align_val_t{64}), bytes) {}
  ~RefBuffer() override { ::operator delete (data(), std::align_val_t{64}); }
};

// Kept as [O, I, kh, kw] float32, rounded to the compute type.
class RefWeight final : public PackedWeight {
 public:
  RefWeight(const WeightInfo& info, std::vector<float> w) : PackedWeight(info), values(std::move(w)) {}
  std::size_t bytes() const override { return values.size() * sizeof(float); }
  float at(std::int64_t o, std::int64_t i, std::int64_t y, std::int64_t x) const {
    return values[static_cast<std::size_t>(((o * in + i) * kernel_h + y) * kernel_w + x)];
  }
  const std::vector<float> values;
};

float round_to(DType type, float value) { return type == DType::f32 ? value : bf16_to_float(float_to_bf16(value)); }

// Element c of row r, as float32 and back.
float get(const Tensor& x, std::int64_t r, std::int64_t c) {
  const std::int64_t i = r * x.row_stride() + c;
  return x.dtype() == DType::f32 ? x.data<float>()[i] : bf16_to_float(x.data<std::uint16_t>()[i]);
}
void set(const Tensor& x, std::int64_t r, std::int64_t c, float value) {
  const std::int64_t i = r * x.row_stride() + c;
  if (x.dtype() == DType::f32) {
    x.data<float>()[i] = value;
  } else {
    x.data<std::uint16_t>()[i] = float_to_bf16(value);
  }
}
float value_of(const Tensor* vector, std::int64_t c) { return vector == nullptr ? 0.0F : get(*vector, 0, c); }

float apply(Activation activation, float x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1.0F + std::exp(-x));
    case Activation::gelu:
      return 0.5F * x * (1.0F + std::erf(x / std::numbers::sqrt2_v<float>));
    case Activation::quick_gelu:
      return x / (1.0F + std::exp(-1.702F * x));
    case Activation::relu:
      return std::max(x, 0.0F);
    case Activation::leaky_relu:
      return x > 0 ? x : 0.2F * x;
  }
  return x;
}

std::vector<float> floats_of(const HostTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  to_float(tensor.dtype, tensor.data, values.data(), values.size());
  return values;
}

// values[rows, columns] += product
void add_product(const LowRankProduct& product, std::int64_t rows, std::vector<float>& values) {
  const std::vector<float> left = floats_of(product.left);
  const std::vector<float> right = floats_of(product.right);
  const std::int64_t depth = product.depth();
  const std::int64_t columns = static_cast<std::int64_t>(values.size()) / rows;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(values.size()); ++i) {
    float sum = 0.0F;
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += product.scale * left[static_cast<std::size_t>(i / columns * depth + k)] *
             right[static_cast<std::size_t>(k * columns + i % columns)];
    }
    values[static_cast<std::size_t>(i)] += sum;
  }
}

// each(visit) visits the positions (row, channel) of a group, value(row, channel) is what lies there.
template <class Each, class Value>
Moments moments_of(const Each& each, const Value& value) {
  double sum = 0, squares = 0, count = 0;
  each([&](std::int64_t r, std::int64_t c) {
    sum += value(r, c);
    ++count;
  });
  const double mean = sum / count;
  each([&](std::int64_t r, std::int64_t c) { squares += (value(r, c) - mean) * (value(r, c) - mean); });
  return {.mean = mean, .variance = squares / count};
}

class RefBackend final : public Backend {
 public:
  std::string_view name() const override { return "ref"; }
  bool has_fast(DType compute) const override { return compute == DType::f32; }
  std::size_t weight_bytes(DType, DType) const override { return sizeof(float); }

  std::shared_ptr<Buffer> allocate(std::size_t bytes) override { return std::make_shared<RefBuffer>(*this, bytes); }

  void upload(const void* source, const Tensor& destination) override {
    std::memcpy(destination.data<std::byte>(), source,
                static_cast<std::size_t>(destination.elements()) * size_of(destination.dtype()));
  }

  void download(const Tensor& source, void* destination) override {
    const std::size_t row = static_cast<std::size_t>(source.channels()) * size_of(source.dtype());
    const std::size_t stride = static_cast<std::size_t>(source.row_stride()) * size_of(source.dtype());
    for (std::int64_t r = 0; r < source.rows(); ++r) {
      std::memcpy(static_cast<std::byte*>(destination) + static_cast<std::size_t>(r) * row,
                  source.data<std::byte>() + static_cast<std::size_t>(r) * stride, row);
    }
  }

  std::shared_ptr<const PackedWeight> pack(const PackRequest& request) override {
    if (request.compute == DType::i8) throw_failure(ErrorCode::unsupported, "the ref backend has no int8");
    std::vector<float> values;
    std::int64_t out = 0;
    for (const auto& [part, products] : request.parts) {
      std::vector<float> sum = floats_of(part);
      for (const LowRankProduct& product : products) add_product(product, part.shape[0], sum);
      values.insert(values.end(), sum.begin(), sum.end());
      out += part.shape[0];
    }
    for (float& value : values) value = round_to(request.compute, value);
    const Shape& shape = request.parts.front().tensor.shape;
    const bool conv = shape.rank() == 4;
    return std::make_shared<RefWeight>(WeightInfo{.use = request.use,
                                                  .compute = request.compute,
                                                  .out = request.use == WeightUse::linear_geglu ? out / 2 : out,
                                                  .in = shape[1],
                                                  .kernel_h = conv ? static_cast<int>(shape[2]) : 1,
                                                  .kernel_w = conv ? static_cast<int>(shape[3]) : 1},
                                       std::move(values));
  }

  void linear(const LinearArgs& args, const Tensor& out) override {
    const auto& w = static_cast<const RefWeight&>(args.weight);
#pragma omp parallel for
    for (std::int64_t r = 0; r < args.x.rows(); ++r) {
      std::vector<float> x(static_cast<std::size_t>(w.in));
      for (std::int64_t i = 0; i < w.in; ++i) x[static_cast<std::size_t>(i)] = round_to(w.compute, get(args.x, r, i));
      const auto dot = [&](std::int64_t o) {
        float sum = value_of(args.bias, o);
        for (std::int64_t i = 0; i < w.in; ++i) sum += x[static_cast<std::size_t>(i)] * w.at(o, i, 0, 0);
        return sum;
      };
      for (std::int64_t o = 0; o < w.out; ++o) {
        float y = dot(o);
        if (w.use == WeightUse::linear_geglu) y *= apply(Activation::gelu, dot(w.out + o));
        y = apply(args.activation, y) * args.scale;
        set(out, r, o, y + (args.residual != nullptr ? get(*args.residual, r, o) : 0.0F));
      }
    }
  }

  void conv2d(const Conv2dArgs& args, const Tensor& out) override {
    const auto& w = static_cast<const RefWeight&>(args.weight);
    // A doubled picture is one whose pixel (y, x) is the original's (y/2, x/2).
    const int doubled = w.use == WeightUse::conv2d_upsample2x ? 2 : 1;
    const Padding pad = doubled == 2 ? Padding{1, 1, 1, 1} : args.padding;
    const std::int64_t height = args.x.dim(1) * doubled;
    const std::int64_t width = args.x.dim(2) * doubled;
#pragma omp parallel for
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      const std::int64_t n = r / (out.dim(1) * out.dim(2));
      const std::int64_t oy = r / out.dim(2) % out.dim(1);
      const std::int64_t ox = r % out.dim(2);
      for (std::int64_t o = 0; o < w.out; ++o) {
        float sum = value_of(args.bias, o) + (args.row_bias != nullptr ? get(*args.row_bias, n, o) : 0.0F);
        for (int ky = 0; ky < w.kernel_h; ++ky) {
          for (int kx = 0; kx < w.kernel_w; ++kx) {
            std::int64_t y = oy * args.stride + ky - pad.top;
            std::int64_t x = ox * args.stride + kx - pad.left;
            if (args.wrap_y) y = (y + height) % height;
            if (args.wrap_x) x = (x + width) % width;
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            const std::int64_t pixel = (n * args.x.dim(1) + y / doubled) * args.x.dim(2) + x / doubled;
            for (std::int64_t i = 0; i < w.in; ++i) {
              sum += round_to(w.compute, get(args.x, pixel, i)) * w.at(o, i, ky, kx);
            }
          }
        }
        const bool sloped = args.slopes != nullptr && sum <= 0;
        const float y = (sloped ? get(*args.slopes, 0, o) * sum : apply(args.activation, sum)) * args.scale;
        set(out, r, o, y + (args.residual != nullptr ? get(*args.residual, r, o) : 0.0F));
      }
    }
  }

  void group_norm(const GroupNormArgs& args, const Tensor& out) override {
    const std::int64_t first = args.x.channels();
    const std::int64_t pixels = out.dim(1) * out.dim(2);
    const std::int64_t width = out.channels() / args.groups;
    const auto input = [&](std::int64_t r, std::int64_t c) {
      return c < first ? get(args.x, r, c) : get(*args.x2, r, c - first);
    };
#pragma omp parallel for collapse(2)
    for (std::int64_t n = 0; n < out.dim(0); ++n) {
      for (int g = 0; g < args.groups; ++g) {
        const auto each = [&](const auto& visit) {
          for (std::int64_t r = n * pixels; r < (n + 1) * pixels; ++r) {
            for (std::int64_t c = g * width; c < (g + 1) * width; ++c) visit(r, c);
          }
        };
        const Moments moments =
            args.given.empty() ? moments_of(each, input) : args.given[static_cast<std::size_t>(n * args.groups + g)];
        const double scale = 1.0 / std::sqrt(moments.variance + args.epsilon);
        each([&](std::int64_t r, std::int64_t c) {
          const auto y = static_cast<float>((input(r, c) - moments.mean) * scale);
          if (args.joined != nullptr) set(*args.joined, r, c, input(r, c));
          set(out, r, c, apply(args.activation, y * get(args.gamma, 0, c) + get(args.beta, 0, c)));
        });
      }
    }
  }

  void group_moments(const Tensor& x, int groups, std::span<Moments> found) override {
    const std::int64_t pixels = x.dim(1) * x.dim(2);
    const std::int64_t width = x.channels() / groups;
    for (std::int64_t i = 0; i < x.dim(0) * groups; ++i) {
      const auto each = [&](const auto& visit) {
        for (std::int64_t r = i / groups * pixels; r < (i / groups + 1) * pixels; ++r) {
          for (std::int64_t c = i % groups * width; c < (i % groups + 1) * width; ++c) visit(r, c);
        }
      };
      found[static_cast<std::size_t>(i)] =
          moments_of(each, [&](std::int64_t r, std::int64_t c) { return get(x, r, c); });
    }
  }

  void layer_norm(const LayerNormArgs& args, const Tensor& out) override {
    const std::int64_t channels = out.channels();
    for (std::int64_t r = 0; r < out.rows(); ++r) {
      double mean = 0;
      double squares = 0;
      for (std::int64_t c = 0; c < channels; ++c) mean += get(args.x, r, c) / static_cast<double>(channels);
      for (std::int64_t c = 0; c < channels; ++c) squares += (get(args.x, r, c) - mean) * (get(args.x, r, c) - mean);
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(channels) + args.epsilon);
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto y = static_cast<float>((get(args.x, r, c) - mean) * scale);
        set(out, r, c, y * get(args.gamma, 0, c) + get(args.beta, 0, c));
      }
    }
  }

  void attention(const AttentionArgs& args, const Tensor& out) override {
    const std::int64_t queries = args.q.dim(1);
    const std::int64_t keys = args.k.dim(1);
    const std::int64_t width = args.q.channels() / args.heads;
#pragma omp parallel for
    for (std::int64_t r = 0; r < args.q.rows(); ++r) {
      const std::int64_t n = r / queries;
      const std::int64_t seen = args.causal ? std::min(keys, r % queries + 1) : keys;
      std::vector<float> scores(static_cast<std::size_t>(seen));
      for (int h = 0; h < args.heads; ++h) {
        const std::int64_t begin = h * width;
        const std::int64_t end = begin + width;
        float largest = -INFINITY;
        for (std::int64_t s = 0; s < seen; ++s) {
          float dot = 0;
          for (std::int64_t c = begin; c < end; ++c) dot += get(args.q, r, c) * get(args.k, n * keys + s, c);
          scores[static_cast<std::size_t>(s)] = dot * args.scale;
          largest = std::max(largest, dot * args.scale);
        }
        float total = 0;
        for (float& score : scores) {
          score = std::exp(score - largest);
          total += score;
        }
        for (std::int64_t c = begin; c < end; ++c) {
          float sum = 0;
          for (std::int64_t s = 0; s < seen; ++s)
            sum += scores[static_cast<std::size_t>(s)] * get(args.v, n * keys + s, c);
          set(out, r, c, sum / total);
        }
      }
    }
  }

  void activate(const Tensor& x, Activation activation, const Tensor& out) override {
    each_element(x, [&](std::int64_t r, std::int64_t c) { set(out, r, c, apply(activation, get(x, r, c))); });
  }

  void add(const Tensor& a, float scale_a, const Tensor& b, float scale_b, const Tensor& out) override {
    each_element(
        a, [&](std::int64_t r, std::int64_t c) { set(out, r, c, get(a, r, c) * scale_a + get(b, r, c) * scale_b); });
  }

  void upsample_nearest2x(const Tensor& x, const Tensor& out) override {
    each_element(out, [&](std::int64_t r, std::int64_t c) {
      const std::int64_t n = r / (out.dim(1) * out.dim(2));
      const std::int64_t y = r / out.dim(2) % out.dim(1) / 2;
      set(out, r, c, get(x, (n * x.dim(1) + y) * x.dim(2) + r % out.dim(2) / 2, c));
    });
  }

  bool all_finite(const Tensor& x) override {
    bool finite = true;
    each_element(x, [&](std::int64_t r, std::int64_t c) { finite = finite && std::isfinite(get(x, r, c)); });
    return finite;
  }

 private:
  template <class Visit>
  static void each_element(const Tensor& x, const Visit& visit) {
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      for (std::int64_t c = 0; c < x.channels(); ++c) visit(r, c);
    }
  }
};

}  // namespace

std::unique_ptr<Backend> make_ref_backend() { return std::make_unique<RefBackend>(); }

}  // namespace darkroom::engine
