// Operations on tensors: each checks its arguments once, makes the result and hands both to the tensors' backend.
// A wrong shape throws Failure{internal} naming the operation and the shapes: models are checked when they load, so
// it is our mistake, but it costs a job and not the worker.
#pragma once

#include <optional>
#include <span>

#include "engine/backend/backend.h"

namespace darkroom::engine {

Tensor empty(Backend& backend, const Shape& shape, DType type);
// Copies host floats and converts them to `type` (f32 or bf16).
Tensor from_host(Backend& backend, std::span<const float> values, const Shape& shape, DType type = DType::f32);
// The values as float32, dense.
std::vector<float> to_host(const Tensor& x);

struct LinearOptions {
  const Tensor* bias = nullptr;
  const Tensor* residual = nullptr;
  Activation activation = Activation::none;
  float scale = 1.0F;
  DType out = DType::f32;
};
Tensor linear(const Tensor& x, const PackedWeight& weight, const LinearOptions& options);
// The same into a given tensor of the right shape, which may be the residual itself.
void linear_into(const Tensor& x, const PackedWeight& weight, const LinearOptions& options, const Tensor& out);

struct Conv2dOptions {
  const Tensor* bias = nullptr;
  const Tensor* row_bias = nullptr;
  const Tensor* residual = nullptr;
  Activation activation = Activation::none;
  const Tensor* slopes = nullptr;  // [O], leaky_relu's
  float scale = 1.0F;
  int stride = 1;
  Padding padding;
  bool wrap_x = false;
  bool wrap_y = false;
  DType out = DType::f32;
};
Tensor conv2d(const Tensor& x, const PackedWeight& weight, const Conv2dOptions& options);
// The same into a given tensor of the right shape, which may be a range of channels of a larger one.
void conv2d_into(const Tensor& x, const PackedWeight& weight, const Conv2dOptions& options, const Tensor& out);

struct GroupNormOptions {
  const Tensor* x2 = nullptr;
  int groups = 32;
  float epsilon = 1e-5F;
  Activation activation = Activation::none;
  std::span<const Moments> given = {};  // [N·groups] to normalise with; empty: x's own
  DType out = DType::f32;
};
struct GroupNormResult {
  Tensor normalised;
  Tensor joined;  // defined only where asked for
};
Tensor group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const GroupNormOptions& options);
// Also gives the input itself, joined with x2 and converted to options.out.
GroupNormResult group_norm_and_join(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                    const GroupNormOptions& options);

// [N·groups], of x [N,H,W,C]
std::vector<Moments> group_moments(const Tensor& x, int groups);

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, float epsilon, DType out);

struct AttentionOptions {
  int heads = 1;
  float scale = 1.0F;
  bool causal = false;
  DType out = DType::f32;
};
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options);

Tensor activate(const Tensor& x, Activation activation, DType out);
// One behind the other along the first dimension; what else their shapes say, and their types, are the same.
Tensor concat_batch(std::span<const Tensor> parts);
// Copies x, converted, into a tensor of its shape; rows of both may be strided.
void copy_into(const Tensor& x, const Tensor& out);
Tensor convert(const Tensor& x, DType out);  // x itself where it already has the type and is contiguous
Tensor add(const Tensor& a, const Tensor& b, float scale_b = 1.0F, float scale_a = 1.0F);  // type of a
void add_into(const Tensor& a, float scale_a, const Tensor& b, float scale_b, const Tensor& out);
// [N, h, w, C] → [N, height, width, C], with height in {2h, 2h−1} and width in {2w, 2w−1}.
Tensor upsample_nearest2x(const Tensor& x, std::int64_t height, std::int64_t width);
bool all_finite(const Tensor& x);

}  // namespace darkroom::engine
