#include "engine/backend/ops.h"

#include "base/error.h"

namespace darkroom::engine {
namespace {

template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw Failure(Error{ErrorCode::internal, fmt::format(format, std::forward<Args>(args)...)});
}

bool is_activation_type(DType type) { return type == DType::f32 || type == DType::bf16; }

void require_same_shape(std::string_view op, std::string_view what, const Tensor& given, const Shape& expected) {
  require(given.shape() == expected, "{}: {} has shape {}, expected {}", op, what, given.shape().str(), expected.str());
}

void require_vector(std::string_view op, std::string_view what, const Tensor& given, std::int64_t length) {
  require(given.rank() == 1 && given.dim(0) == length && given.dtype() == DType::f32,
          "{}: {} is {} {}, expected float32 [{}]", op, what, to_string(given.dtype()), given.shape().str(), length);
}

Shape with_last(const Shape& shape, std::int64_t last) {
  std::vector<std::int64_t> dims(shape.dims().begin(), shape.dims().end());
  dims.back() = last;
  return Shape(std::span<const std::int64_t>(dims));
}

// [H, W] of a convolution's result.
std::pair<std::int64_t, std::int64_t> conv2d_size(const Tensor& x, const PackedWeight& weight,
                                                  const Conv2dOptions& options) {
  if (weight.use == WeightUse::conv2d_upsample2x) return {2 * x.dim(1), 2 * x.dim(2)};
  const Padding& pad = options.padding;
  return {(x.dim(1) + pad.top + pad.bottom - weight.kernel_h) / options.stride + 1,
          (x.dim(2) + pad.left + pad.right - weight.kernel_w) / options.stride + 1};
}

GroupNormResult run_group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                               const GroupNormOptions& options, bool join) {
  require(x.rank() == 4 && is_activation_type(x.dtype()), "group_norm: x is {} {}", to_string(x.dtype()),
          x.shape().str());
  std::int64_t channels = x.channels();
  if (options.x2 != nullptr) {
    require_same_shape("group_norm", "x2", *options.x2, with_last(x.shape(), options.x2->channels()));
    channels += options.x2->channels();
  }
  require(channels % options.groups == 0, "group_norm: {} channels do not split into {} groups", channels,
          options.groups);
  require_vector("group_norm", "gamma", gamma, channels);
  require_vector("group_norm", "beta", beta, channels);
  require(options.given.empty() || static_cast<std::int64_t>(options.given.size()) == x.dim(0) * options.groups,
          "group_norm: {} moments for {} pictures of {} groups", options.given.size(), x.dim(0), options.groups);
  GroupNormResult result;
  const Shape shape = with_last(x.shape(), channels);
  result.normalised = empty(x.backend(), shape, options.out);
  if (join) result.joined = empty(x.backend(), shape, options.out);
  x.backend().group_norm({.x = x,
                          .x2 = options.x2,
                          .gamma = gamma,
                          .beta = beta,
                          .groups = options.groups,
                          .epsilon = options.epsilon,
                          .activation = options.activation,
                          .given = options.given,
                          .joined = join ? &result.joined : nullptr},
                         result.normalised);
  return result;
}

}  // namespace

Tensor empty(Backend& backend, const Shape& shape, DType type) {
  return {backend.allocate(static_cast<std::size_t>(shape.elements()) * size_of(type)), shape, type};
}

Tensor from_host(Backend& backend, std::span<const float> values, const Shape& shape, DType type) {
  require(static_cast<std::int64_t>(values.size()) == shape.elements(), "from_host: {} values for shape {}",
          values.size(), shape.str());
  Tensor result = empty(backend, shape, type);
  if (type == DType::f32) {
    backend.upload(values.data(), result);
  } else {
    std::vector<std::uint16_t> bits(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) bits[i] = float_to_bf16(values[i]);
    backend.upload(bits.data(), result);
  }
  return result;
}

std::vector<float> to_host(const Tensor& x) {
  std::vector<float> values(static_cast<std::size_t>(x.elements()));
  if (x.dtype() == DType::f32) {
    x.backend().download(x, values.data());
  } else {
    std::vector<std::uint16_t> bits(values.size());
    x.backend().download(x, bits.data());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = bf16_to_float(bits[i]);
  }
  return values;
}

Tensor linear(const Tensor& x, const PackedWeight& weight, const LinearOptions& options) {
  Tensor out = empty(x.backend(), with_last(x.shape(), weight.out), options.out);
  linear_into(x, weight, options, out);
  return out;
}

void linear_into(const Tensor& x, const PackedWeight& weight, const LinearOptions& options, const Tensor& out) {
  require(weight.use == WeightUse::linear || weight.use == WeightUse::linear_geglu, "linear: not a linear weight");
  require(is_activation_type(x.dtype()), "linear: x is {}", to_string(x.dtype()));
  require(x.channels() == weight.in, "linear: x has {} channels, the weight takes {}", x.channels(), weight.in);
  const Shape shape = with_last(x.shape(), weight.out);
  require_same_shape("linear", "out", out, shape);
  if (options.bias != nullptr) {
    require_vector("linear", "bias", *options.bias,
                   weight.use == WeightUse::linear_geglu ? 2 * weight.out : weight.out);
  }
  if (options.residual != nullptr) require_same_shape("linear", "residual", *options.residual, shape);
  x.backend().linear({.x = x,
                      .weight = weight,
                      .bias = options.bias,
                      .residual = options.residual,
                      .activation = options.activation,
                      .scale = options.scale},
                     out);
}

Tensor conv2d(const Tensor& x, const PackedWeight& weight, const Conv2dOptions& options) {
  require(x.rank() == 4, "conv2d: x has shape {}", x.shape().str());
  const auto [height, width] = conv2d_size(x, weight, options);
  Tensor out = empty(x.backend(), {x.dim(0), height, width, weight.out}, options.out);
  conv2d_into(x, weight, options, out);
  return out;
}

void conv2d_into(const Tensor& x, const PackedWeight& weight, const Conv2dOptions& options, const Tensor& out) {
  require(weight.use == WeightUse::conv2d || weight.use == WeightUse::conv2d_upsample2x, "conv2d: not a conv weight");
  require(x.rank() == 4 && is_activation_type(x.dtype()), "conv2d: x is {} {}", to_string(x.dtype()), x.shape().str());
  require(x.channels() == weight.in, "conv2d: x has {} channels, the weight takes {}", x.channels(), weight.in);
  const auto [height, width] = conv2d_size(x, weight, options);
  require(height > 0 && width > 0, "conv2d: {} is smaller than the kernel", x.shape().str());
  const Shape shape{x.dim(0), height, width, weight.out};
  require_same_shape("conv2d", "out", out, shape);
  if (options.bias != nullptr) require_vector("conv2d", "bias", *options.bias, weight.out);
  if (options.row_bias != nullptr) {
    require_same_shape("conv2d", "row_bias", *options.row_bias, {x.dim(0), weight.out});
    require(options.row_bias->dtype() == DType::f32, "conv2d: row_bias is not float32");
  }
  if (options.slopes != nullptr) {
    require_vector("conv2d", "slopes", *options.slopes, weight.out);
    require(options.activation == Activation::leaky_relu, "conv2d: slopes for another activation than leaky_relu");
  }
  if (options.residual != nullptr) require_same_shape("conv2d", "residual", *options.residual, shape);
  x.backend().conv2d({.x = x,
                      .weight = weight,
                      .bias = options.bias,
                      .row_bias = options.row_bias,
                      .residual = options.residual,
                      .activation = options.activation,
                      .slopes = options.slopes,
                      .scale = options.scale,
                      .stride = options.stride,
                      .padding = options.padding,
                      .wrap_x = options.wrap_x,
                      .wrap_y = options.wrap_y},
                     out);
}

Tensor group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const GroupNormOptions& options) {
  return run_group_norm(x, gamma, beta, options, false).normalised;
}

GroupNormResult group_norm_and_join(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                    const GroupNormOptions& options) {
  return run_group_norm(x, gamma, beta, options, true);
}

std::vector<Moments> group_moments(const Tensor& x, int groups) {
  require(x.rank() == 4 && is_activation_type(x.dtype()), "group_moments: x is {} {}", to_string(x.dtype()),
          x.shape().str());
  require(x.channels() % groups == 0, "group_moments: {} channels do not split into {} groups", x.channels(), groups);
  std::vector<Moments> found(static_cast<std::size_t>(x.dim(0) * groups));
  x.backend().group_moments(x, groups, found);
  return found;
}

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, float epsilon, DType out) {
  require(is_activation_type(x.dtype()), "layer_norm: x is {}", to_string(x.dtype()));
  require_vector("layer_norm", "gamma", gamma, x.channels());
  require_vector("layer_norm", "beta", beta, x.channels());
  Tensor result = empty(x.backend(), x.shape(), out);
  x.backend().layer_norm({.x = x, .gamma = gamma, .beta = beta, .epsilon = epsilon}, result);
  return result;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  require(q.rank() == 3 && k.rank() == 3, "attention: q {}, k {}", q.shape().str(), k.shape().str());
  require(q.dim(0) == k.dim(0) && q.dim(2) == k.dim(2), "attention: q {} does not fit k {}", q.shape().str(),
          k.shape().str());
  require_same_shape("attention", "v", v, k.shape());
  require(q.dtype() == k.dtype() && q.dtype() == v.dtype(), "attention: q, k and v differ in type");
  require(q.channels() % options.heads == 0, "attention: {} channels do not split into {} heads", q.channels(),
          options.heads);
  Tensor out = empty(q.backend(), q.shape(), options.out);
  q.backend().attention(
      {.q = q, .k = k, .v = v, .heads = options.heads, .scale = options.scale, .causal = options.causal}, out);
  return out;
}

Tensor activate(const Tensor& x, Activation activation, DType out) {
  Tensor result = empty(x.backend(), x.shape(), out);
  x.backend().activate(x, activation, result);
  return result;
}

void copy_into(const Tensor& x, const Tensor& out) {
  require_same_shape("copy_into", "out", out, x.shape());
  x.backend().activate(x, Activation::none, out);
}

Tensor concat_batch(std::span<const Tensor> parts) {
  require(!parts.empty(), "concat_batch: no parts");
  const Tensor& first = parts.front();
  std::vector<std::int64_t> dims(first.shape().dims().begin(), first.shape().dims().end());
  dims[0] = 0;
  for (const Tensor& part : parts) dims[0] += part.dim(0);
  Tensor all = empty(first.backend(), Shape(std::span<const std::int64_t>(dims)), first.dtype());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    copy_into(part, all.slice_batch(begin, part.dim(0)));
    begin += part.dim(0);
  }
  return all;
}

Tensor convert(const Tensor& x, DType out) {
  return x.dtype() == out && x.contiguous() ? x : activate(x, Activation::none, out);
}

Tensor add(const Tensor& a, const Tensor& b, float scale_b, float scale_a) {
  Tensor out = empty(a.backend(), a.shape(), a.dtype());
  add_into(a, scale_a, b, scale_b, out);
  return out;
}

void add_into(const Tensor& a, float scale_a, const Tensor& b, float scale_b, const Tensor& out) {
  require_same_shape("add", "b", b, a.shape());
  require_same_shape("add", "out", out, a.shape());
  a.backend().add(a, scale_a, b, scale_b, out);
}

Tensor upsample_nearest2x(const Tensor& x, std::int64_t height, std::int64_t width) {
  require(x.rank() == 4, "upsample_nearest2x: x has shape {}", x.shape().str());
  require((height + 1) / 2 == x.dim(1) && (width + 1) / 2 == x.dim(2),
          "upsample_nearest2x: {} does not double to {}x{}", x.shape().str(), height, width);
  Tensor out = empty(x.backend(), {x.dim(0), height, width, x.dim(3)}, x.dtype());
  x.backend().upsample_nearest2x(x, out);
  return out;
}

bool all_finite(const Tensor& x) { return x.backend().all_finite(x); }

}  // namespace darkroom::engine
