#include "engine/nn/layers.h"

#include <cmath>
#include <numeric>

#include "base/error.h"

namespace darkroom::engine {
namespace {

std::shared_ptr<Vector> load_bias(const Loader& loader, std::int64_t out, bool has_bias) {
  return has_bias ? loader.vector({{loader.full_name("bias"), {out}}}) : nullptr;
}

const Tensor* values_of(const std::shared_ptr<Vector>& vector) { return vector ? &vector->values() : nullptr; }

DType type_of(const Network& network, const Matrix& weight, std::optional<DType> out) {
  return out.value_or(network.backend().activation_type(weight.packed().compute));
}

}  // namespace

Linear Linear::load(const Loader& loader, std::int64_t in, std::int64_t out, bool has_bias) {
  return load_joined({loader}, in, std::vector{out}, has_bias);
}

Linear Linear::load_joined(const std::vector<Loader>& loaders, std::int64_t in, std::int64_t out_each, bool has_bias) {
  return load_joined(loaders, in, std::vector(loaders.size(), out_each), has_bias);
}

Linear Linear::load_joined(const std::vector<Loader>& loaders, std::int64_t in, const std::vector<std::int64_t>& outs,
                           bool has_bias) {
  std::vector<TensorName> weights;
  std::vector<TensorName> biases;
  for (std::size_t i = 0; i < loaders.size(); ++i) {
    weights.push_back({loaders[i].full_name("weight"), {outs[i], in}});
    biases.push_back({loaders[i].full_name("bias"), {outs[i]}});
  }
  const Loader& first = loaders.front();
  return {.weight = first.matrix(std::move(weights), WeightUse::linear),
          .bias = has_bias ? first.vector(std::move(biases)) : nullptr,
          .network = &first.network()};
}

Linear Linear::load_geglu(const Loader& loader, std::int64_t in, std::int64_t out) {
  return {.weight = loader.matrix({{loader.full_name("weight"), {2 * out, in}}}, WeightUse::linear_geglu),
          .bias = load_bias(loader, 2 * out, true),
          .network = &loader.network()};
}

Tensor Linear::operator()(const Tensor& x, const LinearCall& call) const {
  const PackedWeight& packed = weight->packed();
  count(x);
  return network->watch(*weight, linear(x, packed,
                                        {.bias = values_of(bias),
                                         .residual = call.residual,
                                         .activation = call.activation,
                                         .scale = call.scale,
                                         .out = type_of(*network, *weight, call.out)}));
}

void Linear::add_into(const Tensor& x, float scale, const Tensor& sum) const {
  count(x);
  linear_into(x, weight->packed(), {.bias = values_of(bias), .residual = &sum, .scale = scale, .out = sum.dtype()},
              sum);
  network->watch(*weight, sum);
}

void Linear::count(const Tensor& x) const {
  const PackedWeight& packed = weight->packed();
  const int gates = packed.use == WeightUse::linear_geglu ? 2 : 1;
  network->count(static_cast<std::uint64_t>(2 * gates * x.rows() * packed.in * packed.out));
}

Conv2d Conv2d::load(const Loader& loader, const Conv2dShape& shape) {
  return {.weight = loader.matrix({{loader.full_name("weight"), {shape.out, shape.in, shape.kernel, shape.kernel}}},
                                  WeightUse::conv2d),
          .bias = load_bias(loader, shape.out, shape.has_bias),
          .network = &loader.network(),
          .stride = shape.stride,
          .padding = shape.padding};
}

Conv2dOptions Conv2d::options(const Conv2dCall& call) const {
  return {.bias = values_of(bias),
          .row_bias = call.row_bias,
          .residual = call.residual,
          .activation = call.activation,
          .slopes = call.slopes,
          .scale = call.scale,
          .stride = stride,
          .padding = padding,
          .wrap_x = network->wrap.x,
          .wrap_y = network->wrap.y,
          .out = type_of(*network, *weight, call.out)};
}

Tensor Conv2d::operator()(const Tensor& x, const Conv2dCall& call) const {
  const PackedWeight& packed = weight->packed();
  Tensor y = conv2d(x, packed, options(call));
  network->count(static_cast<std::uint64_t>(2 * y.elements() * packed.in * packed.kernel_h * packed.kernel_w));
  return network->watch(*weight, y);
}

void Conv2d::into(const Tensor& x, const Conv2dCall& call, const Tensor& out) const {
  const PackedWeight& packed = weight->packed();
  Conv2dOptions options_into = options(call);
  options_into.out = out.dtype();
  conv2d_into(x, packed, options_into, out);
  network->count(static_cast<std::uint64_t>(2 * out.elements() * packed.in * packed.kernel_h * packed.kernel_w));
  network->watch(*weight, out);
}

Upsample2D Upsample2D::load(const Loader& loader, std::int64_t channels, bool any_size) {
  const Loader conv = loader / "conv";
  Upsample2D layer = load_doubling(conv, channels);
  if (any_size) {
    layer.plain = conv.matrix({{conv.full_name("weight"), {channels, channels, 3, 3}}}, WeightUse::conv2d);
  }
  return layer;
}

Upsample2D Upsample2D::load_doubling(const Loader& conv, std::int64_t channels) {
  return {
      .doubled = conv.matrix({{conv.full_name("weight"), {channels, channels, 3, 3}}}, WeightUse::conv2d_upsample2x),
      .plain = nullptr,
      .bias = load_bias(conv, channels, true),
      .network = &conv.network()};
}

Tensor Upsample2D::operator()(const Tensor& x, std::int64_t height, std::int64_t width, std::optional<DType> out,
                              Activation activation) const {
  Conv2dOptions options{.bias = values_of(bias),
                        .activation = activation,
                        .padding = {1, 1, 1, 1},
                        .wrap_x = network->wrap.x,
                        .wrap_y = network->wrap.y,
                        .out = type_of(*network, *doubled, out)};
  const std::int64_t channels = x.channels();
  const auto count = [&](int taps) {
    network->count(static_cast<std::uint64_t>(2 * taps * x.dim(0) * height * width * channels * channels));
  };
  if (height == 2 * x.dim(1) && width == 2 * x.dim(2)) {
    count(4);
    return network->watch(*doubled, conv2d(x, doubled->packed(), options));
  }
  DR_ASSERT(plain != nullptr);
  count(9);
  return network->watch(*plain, conv2d(upsample_nearest2x(x, height, width), plain->packed(), options));
}

GroupNorm GroupNorm::load(const Loader& loader, std::int64_t channels, int groups, float epsilon) {
  return {.weight = loader.vector({{loader.full_name("weight"), {channels}}}),
          .bias = loader.vector({{loader.full_name("bias"), {channels}}}),
          .network = &loader.network(),
          .groups = groups,
          .epsilon = epsilon,
          .out = loader.activation_type()};
}

Tensor GroupNorm::operator()(const Tensor& x, const GroupNormCall& call) const {
  return network->watch(*weight, group_norm(x, weight->values(), bias->values(),
                                            {.x2 = call.skip,
                                             .groups = groups,
                                             .epsilon = epsilon,
                                             .activation = call.activation,
                                             .given = call.given,
                                             .out = out}));
}

GroupNormResult GroupNorm::with_input(const Tensor& x, const GroupNormCall& call) const {
  GroupNormResult result = group_norm_and_join(x, weight->values(), bias->values(),
                                               {.x2 = call.skip,
                                                .groups = groups,
                                                .epsilon = epsilon,
                                                .activation = call.activation,
                                                .given = call.given,
                                                .out = out});
  network->watch(*weight, result.normalised);
  return result;
}

LayerNorm LayerNorm::load(const Loader& loader, std::int64_t channels, float epsilon) {
  return {.weight = loader.vector({{loader.full_name("weight"), {channels}}}),
          .bias = loader.vector({{loader.full_name("bias"), {channels}}}),
          .network = &loader.network(),
          .epsilon = epsilon,
          .out = loader.activation_type()};
}

Tensor LayerNorm::operator()(const Tensor& x, std::optional<DType> type) const {
  return network->watch(*weight, layer_norm(x, weight->values(), bias->values(), epsilon, type.value_or(out)));
}

Tensor attend(Network& network, const Tensor& q, const Tensor& k, const Tensor& v, int heads, bool causal) {
  network.count(static_cast<std::uint64_t>(4 * q.rows() * k.dim(1) * q.channels()));
  const auto head_dim = static_cast<float>(q.channels() / heads);
  return attention(q, k, v, {.heads = heads, .scale = 1.0F / std::sqrt(head_dim), .causal = causal, .out = q.dtype()});
}

}  // namespace darkroom::engine
