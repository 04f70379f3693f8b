// What a device can do: some dozen coarse operations with fused arguments. Arguments are valid when they arrive here
// (ops.h checks them once); an implementation only computes.
//
// Types. Activations are float32 or bfloat16; `compute` is the type in which products are taken (float32, bfloat16,
// int8), and sums are always float32. Small parameters (biases, norm weights) are float32 tensors.
// Sums. The order of every reduction depends on the layer's shape alone, never on the batch or the number of threads:
// a picture is the same alone, in a batch, and on any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor/tensor.h"

namespace darkroom::engine {

enum class Activation : std::uint8_t {
  none,
  silu,        // x·σ(x)
  gelu,        // x·Φ(x), the exact one with erf
  quick_gelu,  // x·σ(1.702·x), OpenAI CLIP
  relu,
  leaky_relu,  // x below 0 times a slope: 0.2 (RRDBNet), or a convolution's own for each channel (PReLU)
};

// How a weight will be used; decides its layout.
enum class WeightUse : std::uint8_t {
  linear,
  linear_geglu,  // [2·O, I]: the first O rows make the value, the other O its gate; the result is value·gelu(gate)
  conv2d,        // [O, I, kh, kw]
  conv2d_upsample2x,  // [O, I, 3, 3], applied to the nearest-neighbour doubling of its input
};

struct WeightInfo {
  WeightUse use = WeightUse::linear;
  DType compute = DType::f32;  // f32, bf16 or i8
  std::int64_t out = 0;        // channels of the result: half the rows for linear_geglu
  std::int64_t in = 0;
  int kernel_h = 1;  // of the checkpoint's weight: 3 for conv2d_upsample2x
  int kernel_w = 1;
};

// A weight in the layout that one backend computes with.
class PackedWeight : public WeightInfo {
 public:
  explicit PackedWeight(const WeightInfo& info) : WeightInfo(info) {}
  PackedWeight(const PackedWeight&) = delete;
  PackedWeight& operator=(const PackedWeight&) = delete;
  virtual ~PackedWeight() = default;
  virtual std::size_t bytes() const = 0;
};

struct PackRequest {
  WeightUse use = WeightUse::linear;
  DType compute = DType::f32;
  // [O, I] or [O, I, kh, kw], of any floating type, stacked along the first axis (query, key and value as one weight).
  // Their products are added on the way, in float32; where the weight becomes bfloat16 or int8 they may be taken in
  // bfloat16. conv2d_upsample2x takes one part, without a product.
  std::vector<TensorSum> parts;
};

// y = activation(x·Wᵀ + bias) · scale + residual
struct LinearArgs {
  const Tensor& x;  // [..., I], f32 or bf16; rows may be strided
  const PackedWeight& weight;
  const Tensor* bias = nullptr;      // [O] f32 ([2·O] for linear_geglu)
  const Tensor* residual = nullptr;  // shape of y, f32 or bf16; may be y itself
  Activation activation = Activation::none;
  float scale = 1.0F;
};

struct Padding {
  int top = 0, left = 0, bottom = 0, right = 0;  // rows and columns of the input, before any doubling
};

// y = activation(conv(x, W) + bias + row_bias) · scale + residual
struct Conv2dArgs {
  const Tensor& x;  // [N, H, W, I], rows may be strided
  const PackedWeight& weight;
  const Tensor* bias = nullptr;      // [O] f32
  const Tensor* row_bias = nullptr;  // [N, O] f32, one a picture: the time embedding; rows may be strided
  const Tensor* residual = nullptr;  // shape of y, f32 or bf16; may be y itself
  Activation activation = Activation::none;
  const Tensor* slopes = nullptr;  // [O] f32, leaky_relu's
  float scale = 1.0F;
  int stride = 1;
  Padding padding;      // 1 on each side for conv2d_upsample2x (of the doubled picture)
  bool wrap_x = false;  // pad with the opposite edge instead of zeros: seamless tiling
  bool wrap_y = false;
};

// Of a group's values: all channels of the group in all pixels of a picture.
struct Moments {
  double mean = 0;
  double variance = 0;
};

// y = act(norm([x, x2])): normalised over a picture's pixels and the channels of a group
struct GroupNormArgs {
  const Tensor& x;             // [N, H, W, C1], f32 or bf16
  const Tensor* x2 = nullptr;  // [N, H, W, C2]: the skip connection, joined behind x's channels
  const Tensor& gamma;         // [C1 + C2] f32
  const Tensor& beta;          // [C1 + C2] f32
  int groups = 32;
  float epsilon = 1e-5F;
  Activation activation = Activation::none;  // none or silu
  std::span<const Moments> given = {};       // [N·groups] to normalise with; empty: x's own
  Tensor* joined = nullptr;                  // if set: [N, H, W, C1 + C2], the input itself, joined and converted
};

struct LayerNormArgs {
  const Tensor& x;      // [..., C], f32 or bf16
  const Tensor& gamma;  // [C] f32
  const Tensor& beta;   // [C] f32
  float epsilon = 1e-5F;
};

// y = softmax(q·kᵀ · scale)·v for each head; heads lie side by side in the channels
struct AttentionArgs {
  const Tensor& q;  // [N, Sq, heads·d]; rows may be strided
  const Tensor& k;  // [N, Sk, heads·d]
  const Tensor& v;  // [N, Sk, heads·d]
  int heads = 1;
  float scale = 1.0F;   // usually 1/√d
  bool causal = false;  // query i sees keys 0..i
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;  // "cpu", "ref"
  // Whether pack() takes this compute type and its products are no slower than float32's.
  virtual bool has_fast(DType compute) const = 0;
  // The floating type whose products are fastest: bf16 or f32.
  DType fast_float() const { return has_fast(DType::bf16) ? DType::bf16 : DType::f32; }
  // That of activations between layers that compute in `compute`, and of sensitive layers between those.
  DType activation_type(DType compute) const { return compute == DType::i8 ? fast_float() : compute; }
  // Bytes that pack() takes for one number of a weight whose file has it as `file`, without a product added.
  virtual std::size_t weight_bytes(DType file, DType compute) const = 0;

  // Memory of at least `bytes`, uninitialised, 64-byte aligned. Throws Failure{out_of_memory}.
  virtual std::shared_ptr<Buffer> allocate(std::size_t bytes) = 0;
  // Gives pooled memory that no tensor uses back to the system.
  virtual void trim() {}
  virtual void upload(const void* source, const Tensor& destination) = 0;  // dense, destination's type
  virtual void download(const Tensor& source, void* destination) = 0;      // waits; dense, source's type

  virtual std::shared_ptr<const PackedWeight> pack(const PackRequest& request) = 0;

  // The result's type is that of `out`: f32 or bf16.
  virtual void linear(const LinearArgs& args, const Tensor& out) = 0;
  virtual void conv2d(const Conv2dArgs& args, const Tensor& out) = 0;
  virtual void group_norm(const GroupNormArgs& args, const Tensor& out) = 0;
  // x [N, H, W, C], f32 or bf16; found [N·groups].
  virtual void group_moments(const Tensor& x, int groups, std::span<Moments> found) = 0;
  virtual void layer_norm(const LayerNormArgs& args, const Tensor& out) = 0;
  virtual void attention(const AttentionArgs& args, const Tensor& out) = 0;
  // out = activation(x), converted to out's type; rows of both may be strided.
  virtual void activate(const Tensor& x, Activation activation, const Tensor& out) = 0;
  // out = a·scale_a + b·scale_b, element by element; out may be a or b.
  virtual void add(const Tensor& a, float scale_a, const Tensor& b, float scale_b, const Tensor& out) = 0;
  // out[n, y, x] = x[n, y/2, x/2]; out has twice the height and width, or one less of either.
  virtual void upsample_nearest2x(const Tensor& x, const Tensor& out) = 0;
  // Whether every element is finite.
  virtual bool all_finite(const Tensor& x) = 0;
};

}  // namespace darkroom::engine
