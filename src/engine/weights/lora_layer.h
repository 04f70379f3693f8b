// One adapted layer of a LoRA file: which of the known forms its change has, with every shape checked against the
// layer that it changes.
//
//   LoRA, LoCon  ΔW = up·down, or in Tucker form with lora_mid      Hu et al. 2021; LyCORIS (Yeh et al. 2024)
//   LoHa         ΔW = (w1_a·w1_b) ∘ (w2_a·w2_b)                      Hyeon-Woo et al. 2022
//   LoKr         ΔW = w1 ⊗ w2, either of them whole or a product     LyCORIS
//   GLoRA        ΔW = W·A + B, A and B products                      Chavan et al. 2023
//   OFT, BOFT    W's rows turned by orthogonal matrices               Qiu et al. 2023, Liu et al. 2023; sd-scripts,
//   LyCORIS (IA)³        ΔW = W·w, a factor for each row or input channel    Liu et al. 2022; LyCORIS diff, w_norm ΔW
//   as it is DoRA         on top of any: rows or columns of W + ΔW are given the lengths in dora_scale   Liu et al.
//   2024
// The products are scaled by alpha/rank where the file gives an alpha; OFT's alpha limits how far it turns.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "engine/tensor/tensor.h"

namespace darkroom::engine {

// What a tensor of a file is to its layer.
enum class AdapterRole : std::uint8_t {
  up,
  down,
  mid,
  up_bias,
  alpha,
  dora_scale,
  hada_w1_a,
  hada_w1_b,
  hada_w2_a,
  hada_w2_b,
  hada_t1,
  hada_t2,
  lokr_w1,
  lokr_w1_a,
  lokr_w1_b,
  lokr_w2,
  lokr_w2_a,
  lokr_w2_b,
  lokr_t2,
  glora_a1,
  glora_a2,
  glora_b1,
  glora_b2,
  oft_blocks,
  rescale,
  ia3_weight,
  on_input,
  difference,
  bias_difference,
};

using AdapterTensors = std::map<AdapterRole, HostTensor>;

// The shape of a weight that is adapted: a linear layer has one tap, a norm one input.
struct AdaptedShape {
  std::int64_t out = 1;
  std::int64_t in = 1;
  std::int64_t kernel_h = 1;
  std::int64_t kernel_w = 1;

  std::int64_t taps() const { return kernel_h * kernel_w; }
  std::int64_t columns() const { return in * taps(); }
};

// A matrix [rows, columns·taps]: whole, a product left·right, or Σ_pq left[o,p]·core[p,q,kh,kw]·right[q,i].
struct Factor {
  HostTensor left;
  std::optional<HostTensor> right;
  std::optional<HostTensor> core;
  bool left_lies_transposed = false;  // [p, rows], as LyCORIS has it in LoHa and LoKr with a core
};

struct Hadamard {
  Factor first;
  Factor second;
};
struct Kronecker {
  Factor first;
  Factor second;
};
// W·(a_left·a_right) + b_left·b_right
struct Generalized {
  HostTensor a_left;
  HostTensor a_right;
  HostTensor b_left;
  HostTensor b_right;
  bool per_tap = true;  // A mixes input channels, the same for every tap; else it mixes all columns
};

// Blocks of rows turned by R = (I + Q)·(I − Q)⁻¹, where Q is a block of `blocks` less that transposed.
struct Rotation {
  HostTensor blocks;      // [stages, O/size, size, size]
  std::int64_t size = 1;  // rows of a block
  std::int64_t stages = 1;
  bool butterfly = false;             // BOFT: R·W in stages, rows changing places between them; else OFT: Rᵀ·W once
  float limit = 0;                    // of the Frobenius norm of all Q together; 0: none
  std::optional<HostTensor> rescale;  // [O], of each row at last
};

enum class ChannelAxis : std::uint8_t { output, input };
// Each row or input channel times its factor.
struct Scaling {
  HostTensor factors;
  ChannelAxis axis = ChannelAxis::output;
};
struct Dora {
  HostTensor scale;
  ChannelAxis axis = ChannelAxis::output;
};

struct AdapterLayer {
  std::string name;  // as in the file
  AdaptedShape shape;
  std::variant<std::monostate, Factor, Hadamard, Kronecker, Generalized, Rotation, Scaling> change;
  float scale = 1.0F;
  std::optional<Dora> dora;
  std::optional<HostTensor> bias;  // added to the layer's bias
  float bias_scale = 1.0F;
  // The tensor names of the base, without ".weight", that the layer stands for, stacked: one, or q, k and v of a fused
  // projection.
  std::vector<std::string> places;
};

// default_scale: what the change is scaled by where the file's tensors do not say an alpha; none: 1.
// Errors: corrupt_data naming the tensor, what was expected and what was found.
Result<AdapterLayer> make_adapter_layer(std::string name, AdapterTensors tensors, const AdaptedShape& shape,
                                        std::optional<float> default_scale = {});

}  // namespace darkroom::engine
