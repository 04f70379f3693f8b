// What an adapted layer adds to its weight. Formulas: lora_layer.h.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "engine/weights/lora_layer.h"
#include "engine/weights/lora_matrix.h"

namespace darkroom::engine {

// Whether the change is a product of two matrices and nothing else: several of these add up to one product.
bool is_plain_product(const AdapterLayer& layer);

// ΔW of a layer at strength 1, alpha in it. The small matrices are read once; rows of ΔW are computed when they are
// asked for, so that a chunk of them stays in a core's cache until it is added. May be asked from several threads.
class WeightChange {
 public:
  // base: W [O, I·taps], the weights of the layer's places. threads: of what must be computed beforehand; 0 is OpenMP's
  // own number.
  WeightChange(const AdapterLayer& layer, TensorRows base, int threads);

  // Rows from `first` on, into rows [count, I·taps]; scratch has as much room.
  void read(std::int64_t first, std::int64_t count, float* rows, float* scratch) const;

 private:
  // [O, I·taps]: left·right, or a tensor as it is.
  struct FactorRows {
    FactorRows(const Factor& factor, std::int64_t taps, int threads);
    void read(std::int64_t first, std::int64_t count, float* rows) const;
    TensorRows whole;
    FloatMatrix left;
    FloatMatrix right;  // empty: whole
  };
  struct HadamardRows {
    FactorRows first;
    FactorRows second;
  };
  struct KroneckerRows {
    FloatMatrix first;
    FloatMatrix second;
  };
  struct GeneralizedRows {
    FloatMatrix a_left;
    FloatMatrix a_right;
    FloatMatrix b_left;
    FloatMatrix b_right;
    std::int64_t taps;  // that A is the same for
  };
  struct ScalingRows {
    FloatMatrix factors;
    ChannelAxis axis;
  };

  void read_form(std::int64_t first, std::int64_t count, float* rows, float* scratch) const;
  void find_input_lengths(int threads);

  const AdapterLayer& layer_;
  TensorRows base_;
  std::int64_t columns_;
  // A rotation mixes rows, so its change is computed whole.
  std::variant<std::monostate, FactorRows, HadamardRows, KroneckerRows, GeneralizedRows, ScalingRows, FloatMatrix>
      form_;
  std::vector<float> lengths_;         // DoRA: as wanted
  std::vector<float> column_factors_;  // wanted over what they are, where input channels are given lengths
};

}  // namespace darkroom::engine
