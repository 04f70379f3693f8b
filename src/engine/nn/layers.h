// The layers that SDXL's networks are made of: weights and one operation each. Results have the type that layers
// compute in (float32 or bfloat16) unless `out` asks for another: the residual stream is kept in float32.
#pragma once

#include <optional>

#include "engine/backend/ops.h"
#include "engine/nn/parameter.h"

namespace darkroom::engine {

struct LinearCall {
  const Tensor* residual = nullptr;  // added to the result
  Activation activation = Activation::none;
  float scale = 1.0F;
  std::optional<DType> out;
};

// y = x·Wᵀ + b
struct Linear {
  std::shared_ptr<Matrix> weight;
  std::shared_ptr<Vector> bias;  // null: none
  Network* network = nullptr;

  // [O, I] at `loader`, which may also be a 1×1 convolution's [O, I, 1, 1].
  static Linear load(const Loader& loader, std::int64_t in, std::int64_t out, bool has_bias = true);
  // Several layers over the same input as one, results side by side.
  static Linear load_joined(const std::vector<Loader>& loaders, std::int64_t in, std::int64_t out_each,
                            bool has_bias = true);
  static Linear load_joined(const std::vector<Loader>& loaders, std::int64_t in, const std::vector<std::int64_t>& outs,
                            bool has_bias = true);
  // value·gelu(gate), both from one layer of 2·out rows: diffusers' GEGLU.
  static Linear load_geglu(const Loader& loader, std::int64_t in, std::int64_t out);

  Tensor operator()(const Tensor& x, const LinearCall& call = {}) const;  // [..., I] → [..., O]
  // sum += scale·y, in place.
  void add_into(const Tensor& x, float scale, const Tensor& sum) const;
  void count(const Tensor& x) const;  // its arithmetic
};

struct Conv2dCall {
  const Tensor* row_bias = nullptr;  // [N, O], one a picture
  const Tensor* residual = nullptr;
  Activation activation = Activation::none;
  const Tensor* slopes = nullptr;  // [O], leaky_relu's
  float scale = 1.0F;
  std::optional<DType> out;
};

struct Conv2dShape {
  std::int64_t in = 0;
  std::int64_t out = 0;
  int kernel = 3;
  int stride = 1;
  Padding padding = {1, 1, 1, 1};
  bool has_bias = true;
};

struct Conv2d {
  std::shared_ptr<Matrix> weight;  // [O, I, k, k]
  std::shared_ptr<Vector> bias;
  Network* network = nullptr;
  int stride = 1;
  Padding padding;

  static Conv2d load(const Loader& loader, const Conv2dShape& shape);
  Tensor operator()(const Tensor& x, const Conv2dCall& call = {}) const;  // [N,H,W,I] → [N,H',W',O]
  void into(const Tensor& x, const Conv2dCall& call, const Tensor& out) const;

 private:
  Conv2dOptions options(const Conv2dCall& call) const;
};

// Nearest-neighbour doubling and a 3×3 convolution, in 4/9 of the arithmetic.
struct Upsample2D {
  std::shared_ptr<Matrix> doubled;  // four 2×2 kernels
  std::shared_ptr<Matrix> plain;    // the 3×3 kernel, where the result is not exactly twice the size; null: never
  std::shared_ptr<Vector> bias;
  Network* network = nullptr;

  // The convolution lies at loader / "conv".
  static Upsample2D load(const Loader& loader, std::int64_t channels, bool any_size);
  // The convolution lies at `conv`; results are exactly twice the size.
  static Upsample2D load_doubling(const Loader& conv, std::int64_t channels);
  // [N,h,w,C] → [N,height,width,C], with height in {2h, 2h−1} and width in {2w, 2w−1}
  Tensor operator()(const Tensor& x, std::int64_t height, std::int64_t width, std::optional<DType> out = {},
                    Activation activation = Activation::none) const;
};

struct GroupNormCall {
  const Tensor* skip = nullptr;  // joined behind x's channels
  Activation activation = Activation::none;
  std::span<const Moments> given = {};  // [N·groups] to normalise with; empty: x's own
};

struct GroupNorm {
  std::shared_ptr<Vector> weight;
  std::shared_ptr<Vector> bias;
  Network* network = nullptr;
  int groups = 32;
  float epsilon = 1e-5F;
  DType out = DType::f32;

  static GroupNorm load(const Loader& loader, std::int64_t channels, int groups, float epsilon);
  Tensor operator()(const Tensor& x, const GroupNormCall& call = {}) const;  // [N,H,W,C]
  GroupNormResult with_input(const Tensor& x, const GroupNormCall& call = {}) const;
};

struct LayerNorm {
  std::shared_ptr<Vector> weight;
  std::shared_ptr<Vector> bias;
  Network* network = nullptr;
  float epsilon = 1e-5F;
  DType out = DType::f32;

  static LayerNorm load(const Loader& loader, std::int64_t channels, float epsilon = 1e-5F);
  // [..., C], in `type` if given, else in the type that layers compute in
  Tensor operator()(const Tensor& x, std::optional<DType> type = {}) const;
};

// softmax(q·kᵀ/√d)·v for heads that lie side by side; counts its arithmetic.
Tensor attend(Network& network, const Tensor& q, const Tensor& k, const Tensor& v, int heads, bool causal = false);

}  // namespace darkroom::engine
