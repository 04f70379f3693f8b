// Every form of adapter against its formula, written out in double with an index for every sum.
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "engine/weights/lora.h"
#include "tests/unit/weights/lora_support.h"

namespace darkroom::engine {
namespace {

using test::expect_near;
using test::make_rows;
using test::noise;
using test::plus;
using test::Rows;
using test::rows_of;
using test::source_of;
using test::tensor_of;
using test::times;

const std::string kLinear = "mid_block.attentions.0.proj_in";
const std::string kConv = "mid_block.resnets.0.conv1";
const std::string kPoint = "mid_block.resnets.0.conv_shortcut";  // a 1×1 convolution
const std::string kSquare = "mid_block.attentions.0.proj_out";
const std::string kTall = "mid_block.attentions.0.transformer_blocks.0.ff.net.2";
const std::string kNorm = "mid_block.resnets.0.norm1";
const std::string kAttention = "text_model.encoder.layers.0.self_attn.";
constexpr std::size_t kTaps = 9;

HostTensor scalar(const std::string& name, float value) { return tensor_of(name, Shape{}, {value}); }

WeightSourcePtr unet() {
  static const WeightSourcePtr source = source_of(
      {noise(kLinear + ".weight", {6, 8}), noise(kLinear + ".bias", {6}), noise(kConv + ".weight", {6, 4, 3, 3}),
       noise(kConv + ".bias", {6}), noise(kPoint + ".weight", {6, 8, 1, 1}), noise(kSquare + ".weight", {5, 5}),
       noise(kTall + ".weight", {80, 12}), noise(kNorm + ".weight", {7}), noise(kNorm + ".bias", {7})});
  return source;
}

WeightSourcePtr text_encoder_2() {
  static const WeightSourcePtr source =
      source_of({noise("text_model.encoder.layers.0.layer_norm1.weight", {4}),
                 noise(kAttention + "q_proj.weight", {4, 4}), noise(kAttention + "q_proj.bias", {4}),
                 noise(kAttention + "k_proj.weight", {4, 4}), noise(kAttention + "k_proj.bias", {4}),
                 noise(kAttention + "v_proj.weight", {4, 4}), noise(kAttention + "v_proj.bias", {4})});
  return source;
}

std::shared_ptr<const Lora> bind(std::vector<HostTensor> tensors) {
  const LayerNames names({{AdapterTarget::unet, unet()}, {AdapterTarget::text_encoder_2, text_encoder_2()}});
  return value_or_throw(Lora::bind(*source_of(std::move(tensors)), {}, names));
}

HostTensor merged(const std::string& tensor, const std::vector<WornLora>& worn) {
  const AdaptedSource source(unet(), AdapterTarget::unet, worn, 1);
  EXPECT_EQ(source.info(tensor)->dtype, DType::f32);
  EXPECT_EQ(source.info(tensor)->shape, unet()->info(tensor)->shape);
  return source.find(tensor).value();
}

// A layer with tensors by ending: the tensors of "unet.LAYER".
class Layer {
 public:
  explicit Layer(std::string layer) : layer_(std::move(layer)) {}
  Layer& add(const std::string& ending, const Shape& shape) {
    tensors_.push_back(noise("unet." + layer_ + ending, shape));
    return *this;
  }
  Layer& add_alpha(float alpha) {
    tensors_.push_back(scalar("unet." + layer_ + ".alpha", alpha));
    return *this;
  }
  Rows rows(const std::string& ending) const {
    for (const HostTensor& tensor : tensors_) {
      if (tensor.name.ends_with(layer_ + ending)) return rows_of(tensor);
    }
    throw std::out_of_range(ending);
  }
  HostTensor merge(float strength) const { return merged(layer_ + ".weight", {{bind(tensors_), strength}}); }
  Rows base() const { return rows_of(*unet()->find(layer_ + ".weight")); }
  const std::vector<HostTensor>& tensors() const { return tensors_; }

 private:
  std::string layer_;
  std::vector<HostTensor> tensors_;
};

// Σ_pq left[o][p]·core[p][q·taps + t]·right[q][i] at [o][i·taps + t]
Rows tucker(const Rows& left, const Rows& core, const Rows& right) {
  return make_rows(left.size(), right[0].size() * kTaps, [&](std::size_t o, std::size_t column) {
    double sum = 0;
    for (std::size_t p = 0; p < core.size(); ++p) {
      for (std::size_t q = 0; q < right.size(); ++q) {
        sum += left[o][p] * core[p][q * kTaps + column % kTaps] * right[q][column / kTaps];
      }
    }
    return sum;
  });
}

Rows turned(const Rows& a) {
  return make_rows(a[0].size(), a.size(), [&](std::size_t i, std::size_t j) { return a[j][i]; });
}

Rows hadamard(const Rows& a, const Rows& b) {
  return make_rows(a.size(), a[0].size(), [&](std::size_t i, std::size_t j) { return a[i][j] * b[i][j]; });
}

Rows kronecker(const Rows& a, const Rows& b) {
  return make_rows(a.size() * b.size(), a[0].size() * b[0].size(), [&](std::size_t i, std::size_t j) {
    return a[i / b.size()][j / b[0].size()] * b[i % b.size()][j % b[0].size()];
  });
}

TEST(LoraFormulas, ALowRankProductIsScaledByAlphaOverRankAndStrength) {
  Layer layer(kLinear);
  layer.add(".lora_up.weight", {6, 3}).add(".lora_down.weight", {3, 8}).add_alpha(1.5F);
  const Rows product = times(layer.rows(".lora_up.weight"), layer.rows(".lora_down.weight"));
  expect_near(layer.merge(0.8F), plus(layer.base(), 0.8 * 1.5 / 3, product));
  expect_near(layer.merge(-2.0F), plus(layer.base(), -2.0 * 1.5 / 3, product));
}

TEST(LoraFormulas, WithoutAlphaTheProductIsTakenAsItIs) {
  Layer layer(kLinear);
  layer.add(".lora_A.weight", {3, 8}).add(".lora_B.weight", {6, 3});
  expect_near(layer.merge(1.0F),
              plus(layer.base(), 1, times(layer.rows(".lora_B.weight"), layer.rows(".lora_A.weight"))));
}

TEST(LoraFormulas, AConvolutionsProductMayBeFlattened) {
  for (const Shape& down : {Shape{2, 4, 3, 3}, Shape{2, 36}}) {
    for (const Shape& up : {Shape{6, 2, 1, 1}, Shape{6, 2}}) {
      Layer layer(kConv);
      layer.add(".lora_up.weight", up).add(".lora_down.weight", down).add_alpha(1);
      const Rows product = times(layer.rows(".lora_up.weight"), layer.rows(".lora_down.weight"));
      expect_near(layer.merge(1.0F), plus(layer.base(), 0.5, product));
    }
  }
}

TEST(LoraFormulas, LinearAnd1x1ConvolutionFormsStandForEachOther) {
  for (const std::string& name : {kLinear, kPoint}) {
    for (const bool as_convolution : {false, true}) {
      Layer layer(name);
      layer.add(".lora_up.weight", as_convolution ? Shape{6, 2, 1, 1} : Shape{6, 2});
      layer.add(".lora_down.weight", as_convolution ? Shape{2, 8, 1, 1} : Shape{2, 8});
      expect_near(layer.merge(1.0F),
                  plus(layer.base(), 1, times(layer.rows(".lora_up.weight"), layer.rows(".lora_down.weight"))));
    }
  }
}

TEST(LoraFormulas, AMiddleTensorMakesTheTuckerForm) {
  Layer layer(kConv);
  layer.add(".lora_up.weight", {6, 2, 1, 1}).add(".lora_mid.weight", {2, 3, 3, 3});
  layer.add(".lora_down.weight", {3, 4, 1, 1}).add_alpha(6);
  const Rows change =
      tucker(layer.rows(".lora_up.weight"), layer.rows(".lora_mid.weight"), layer.rows(".lora_down.weight"));
  expect_near(layer.merge(0.5F), plus(layer.base(), 0.5 * 6 / 3, change));
}

TEST(LoraFormulas, LohaMultipliesTwoProductsElementByElement) {
  Layer layer(kLinear);
  layer.add(".hada_w1_a", {6, 3}).add(".hada_w1_b", {3, 8}).add(".hada_w2_a", {6, 2}).add(".hada_w2_b", {2, 8});
  layer.add_alpha(1);
  const Rows change = hadamard(times(layer.rows(".hada_w1_a"), layer.rows(".hada_w1_b")),
                               times(layer.rows(".hada_w2_a"), layer.rows(".hada_w2_b")));
  expect_near(layer.merge(0.6F), plus(layer.base(), 0.6 / 3, change));
}

TEST(LoraFormulas, LohaOfAConvolutionMayBeFlattenedOrInTuckerForm) {
  Layer flat(kConv);
  flat.add(".hada_w1_a", {6, 2}).add(".hada_w1_b", {2, 36}).add(".hada_w2_a", {6, 2}).add(".hada_w2_b", {2, 36});
  expect_near(flat.merge(1.0F), plus(flat.base(), 1,
                                     hadamard(times(flat.rows(".hada_w1_a"), flat.rows(".hada_w1_b")),
                                              times(flat.rows(".hada_w2_a"), flat.rows(".hada_w2_b")))));
  Layer layer(kConv);
  layer.add(".hada_w1_a", {2, 6}).add(".hada_w1_b", {2, 4}).add(".hada_t1", {2, 2, 3, 3});
  layer.add(".hada_w2_a", {3, 6}).add(".hada_w2_b", {2, 4}).add(".hada_t2", {3, 2, 3, 3}).add_alpha(4);
  const Rows change =
      hadamard(tucker(turned(layer.rows(".hada_w1_a")), layer.rows(".hada_t1"), layer.rows(".hada_w1_b")),
               tucker(turned(layer.rows(".hada_w2_a")), layer.rows(".hada_t2"), layer.rows(".hada_w2_b")));
  expect_near(layer.merge(1.0F), plus(layer.base(), 4.0 / 2, change));
}

TEST(LoraFormulas, LokrIsAKroneckerProductOfWholeOrFactoredMatrices) {
  Layer whole(kLinear);
  whole.add(".lokr_w1", {2, 4}).add(".lokr_w2", {3, 2}).add_alpha(100);  // no rank: alpha says nothing
  expect_near(whole.merge(0.7F), plus(whole.base(), 0.7, kronecker(whole.rows(".lokr_w1"), whole.rows(".lokr_w2"))));

  Layer second(kLinear);
  second.add(".lokr_w1", {2, 4}).add(".lokr_w2_a", {3, 2}).add(".lokr_w2_b", {2, 2}).add_alpha(1);
  expect_near(second.merge(1.0F),
              plus(second.base(), 0.5,
                   kronecker(second.rows(".lokr_w1"), times(second.rows(".lokr_w2_a"), second.rows(".lokr_w2_b")))));

  Layer both(kLinear);
  both.add(".lokr_w1_a", {2, 5}).add(".lokr_w1_b", {5, 4});
  both.add(".lokr_w2_a", {3, 2}).add(".lokr_w2_b", {2, 2}).add_alpha(3);
  expect_near(both.merge(1.0F), plus(both.base(), 3.0 / 2,
                                     kronecker(times(both.rows(".lokr_w1_a"), both.rows(".lokr_w1_b")),
                                               times(both.rows(".lokr_w2_a"), both.rows(".lokr_w2_b")))));

  Layer first(kLinear);
  first.add(".lokr_w1_a", {2, 5}).add(".lokr_w1_b", {5, 4}).add(".lokr_w2", {3, 2}).add_alpha(2);
  expect_near(first.merge(1.0F),
              plus(first.base(), 2.0 / 5,
                   kronecker(times(first.rows(".lokr_w1_a"), first.rows(".lokr_w1_b")), first.rows(".lokr_w2"))));
}

TEST(LoraFormulas, LokrOfAConvolutionKeepsItsTaps) {
  Layer whole(kConv);
  whole.add(".lokr_w1", {3, 2}).add(".lokr_w2", {2, 2, 3, 3});
  expect_near(whole.merge(1.0F), plus(whole.base(), 1, kronecker(whole.rows(".lokr_w1"), whole.rows(".lokr_w2"))));

  Layer flat(kConv);
  flat.add(".lokr_w1", {3, 2}).add(".lokr_w2_a", {2, 3}).add(".lokr_w2_b", {3, 18}).add_alpha(1);
  expect_near(flat.merge(1.0F),
              plus(flat.base(), 1.0 / 3,
                   kronecker(flat.rows(".lokr_w1"), times(flat.rows(".lokr_w2_a"), flat.rows(".lokr_w2_b")))));

  Layer core(kConv);
  core.add(".lokr_w1", {3, 2}).add(".lokr_w2_a", {3, 2}).add(".lokr_w2_b", {4, 2}).add(".lokr_t2", {3, 4, 3, 3});
  core.add_alpha(2);
  expect_near(core.merge(1.0F),
              plus(core.base(), 2.0 / 4,
                   kronecker(core.rows(".lokr_w1"),
                             tucker(turned(core.rows(".lokr_w2_a")), core.rows(".lokr_t2"), core.rows(".lokr_w2_b")))));
}

TEST(LoraFormulas, GloraMixesTheBaseItself) {
  Layer layer(kLinear);
  layer.add(".a1.weight", {8, 2}).add(".a2.weight", {2, 8}).add(".b1.weight", {6, 3}).add(".b2.weight", {3, 8});
  layer.add_alpha(3);
  const Rows mixed = times(times(layer.base(), layer.rows(".a1.weight")), layer.rows(".a2.weight"));
  const Rows change = plus(mixed, 1, times(layer.rows(".b1.weight"), layer.rows(".b2.weight")));
  expect_near(layer.merge(0.5F), plus(layer.base(), 0.5 * 3 / 2, change));
}

TEST(LoraFormulas, GlorasOlderOrderIsToldByItsShapes) {
  Layer layer(kLinear);
  layer.add(".a1.weight", {2, 8}).add(".a2.weight", {8, 2}).add(".b1.weight", {2, 8}).add(".b2.weight", {6, 2});
  layer.add_alpha(1);
  const Rows mixed = times(times(layer.base(), layer.rows(".a2.weight")), layer.rows(".a1.weight"));
  const Rows change = plus(mixed, 1, times(layer.rows(".b2.weight"), layer.rows(".b1.weight")));
  expect_near(layer.merge(1.0F), plus(layer.base(), 0.5, change));
}

TEST(LoraFormulas, GloraOfAConvolutionMixesItsInputsTapByTap) {
  Layer layer(kConv);
  layer.add(".a1.weight", {4, 2, 1, 1}).add(".a2.weight", {2, 4, 1, 1});
  layer.add(".b1.weight", {6, 2, 1, 1}).add(".b2.weight", {2, 4, 3, 3});
  const Rows a = times(layer.rows(".a1.weight"), layer.rows(".a2.weight"));  // [4][4]
  const Rows b = times(layer.rows(".b1.weight"), layer.rows(".b2.weight"));
  const Rows base = layer.base();
  const Rows change = make_rows(6, 36, [&](std::size_t o, std::size_t column) {
    double sum = b[o][column];
    for (std::size_t i = 0; i < 4; ++i) sum += base[o][i * kTaps + column % kTaps] * a[i][column / kTaps];
    return sum;
  });
  expect_near(layer.merge(1.0F), plus(base, 1, change));
}

// W + ΔW with each of its groups of numbers at the wanted length.
Rows with_lengths(const Rows& weight, const Rows& lengths,
                  const std::function<std::size_t(std::size_t, std::size_t)>& group) {
  std::map<std::size_t, double> squares;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    for (std::size_t j = 0; j < weight[i].size(); ++j) squares[group(i, j)] += weight[i][j] * weight[i][j];
  }
  std::vector<double> wanted;
  for (const auto& row : lengths) wanted.insert(wanted.end(), row.begin(), row.end());
  return make_rows(weight.size(), weight[0].size(), [&](std::size_t i, std::size_t j) {
    return weight[i][j] * wanted[group(i, j)] / std::sqrt(squares[group(i, j)]);
  });
}

TEST(LoraFormulas, DoraGivesRowsTheirLengths) {
  for (const auto& [name, down, scale] : {std::tuple{kLinear, Shape{2, 8}, Shape{6, 1}},
                                          {kLinear, Shape{2, 8}, Shape{6}},
                                          {kConv, Shape{2, 4, 3, 3}, Shape{6, 1, 1, 1}},
                                          {kConv, Shape{2, 4, 3, 3}, Shape{6, 1}}}) {
    Layer layer(name);
    layer.add(".lora_up.weight", {6, 2}).add(".lora_down.weight", down).add(".dora_scale", scale).add_alpha(1);
    const Rows sum = plus(layer.base(), 0.5, times(layer.rows(".lora_up.weight"), layer.rows(".lora_down.weight")));
    const Rows adapted = with_lengths(sum, layer.rows(".dora_scale"), [](std::size_t i, std::size_t) { return i; });
    expect_near(layer.merge(1.0F), adapted);
    // A strength leads from the base straight to there.
    expect_near(layer.merge(0.25F), plus(layer.base(), 0.25, plus(adapted, -1, layer.base())));
  }
}

TEST(LoraFormulas, DoraGivesInputChannelsTheirLengths) {
  Layer linear(kLinear);
  linear.add(".lora_up.weight", {6, 2}).add(".lora_down.weight", {2, 8}).add(".dora_scale", {1, 8});
  const Rows sum = plus(linear.base(), 1, times(linear.rows(".lora_up.weight"), linear.rows(".lora_down.weight")));
  expect_near(linear.merge(1.0F),
              with_lengths(sum, linear.rows(".dora_scale"), [](std::size_t, std::size_t j) { return j; }));

  Layer conv(kConv);
  conv.add(".lora_up.weight", {6, 2}).add(".lora_down.weight", {2, 4, 3, 3}).add(".dora_scale", {1, 4, 1, 1});
  const Rows conv_sum = plus(conv.base(), 1, times(conv.rows(".lora_up.weight"), conv.rows(".lora_down.weight")));
  expect_near(conv.merge(1.0F),
              with_lengths(conv_sum, conv.rows(".dora_scale"), [](std::size_t, std::size_t j) { return j / kTaps; }));
}

TEST(LoraFormulas, TheScalesShapeTellsTheAxisOfASquareWeight) {
  for (const bool output : {true, false}) {
    Layer layer(kSquare);
    layer.add(".lora_up.weight", {5, 2}).add(".lora_down.weight", {2, 5});
    layer.add(".dora_scale", output ? Shape{5, 1} : Shape{1, 5});
    const Rows sum = plus(layer.base(), 1, times(layer.rows(".lora_up.weight"), layer.rows(".lora_down.weight")));
    expect_near(layer.merge(1.0F), with_lengths(sum, layer.rows(".dora_scale"),
                                                [&](std::size_t i, std::size_t j) { return output ? i : j; }));
  }
}

TEST(LoraFormulas, DoraGoesOnTopOfOtherForms) {
  Layer layer(kLinear);
  layer.add(".lokr_w1", {2, 4}).add(".lokr_w2", {3, 2}).add(".dora_scale", {6, 1});
  const Rows sum = plus(layer.base(), 1, kronecker(layer.rows(".lokr_w1"), layer.rows(".lokr_w2")));
  expect_near(layer.merge(1.0F),
              with_lengths(sum, layer.rows(".dora_scale"), [](std::size_t i, std::size_t) { return i; }));
}

// (I + Q)·(I − Q)⁻¹ of Q = block − blockᵀ, `shorter` times as long: R·(I − Q) = I + Q is solved for R.
Rows rotation(const Rows& block, double shorter) {
  const std::size_t n = block.size();
  const Rows q = make_rows(n, n, [&](std::size_t i, std::size_t j) { return shorter * (block[i][j] - block[j][i]); });
  Rows left = make_rows(n, n, [&](std::size_t i, std::size_t j) { return (i == j ? 1.0 : 0.0) - q[i][j]; });
  Rows right = make_rows(n, n, [&](std::size_t i, std::size_t j) { return (i == j ? 1.0 : 0.0) + q[i][j]; });
  for (std::size_t k = 0; k < n; ++k) {  // by columns, until the left one is I
    for (std::size_t j = 0; j < n; ++j) {
      if (j == k) continue;
      const double factor = left[k][j] / left[k][k];
      for (std::size_t i = 0; i < n; ++i) {
        left[i][j] -= factor * left[i][k];
        right[i][j] -= factor * right[i][k];
      }
    }
  }
  return make_rows(n, n, [&](std::size_t i, std::size_t j) { return right[i][j] / left[j][j]; });
}

// Block `index` of n rows out of all blocks.
Rows block_of(const HostTensor& blocks, std::size_t index, std::size_t n) {
  std::vector<float> values(static_cast<std::size_t>(blocks.elements()));
  to_float(blocks.dtype, blocks.data, values.data(), values.size());
  return make_rows(n, n, [&](std::size_t i, std::size_t j) { return values[(index * n + i) * n + j]; });
}

// How much shorter all Q together are within `limit`.
double shortened(const HostTensor& blocks, std::size_t n, double limit) {
  double sum = 0;
  for (std::size_t b = 0; b < static_cast<std::size_t>(blocks.elements()) / n / n; ++b) {
    const Rows block = block_of(blocks, b, n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) sum += (block[i][j] - block[j][i]) * (block[i][j] - block[j][i]);
    }
  }
  return std::min(1.0, limit / std::sqrt(sum));
}

TEST(LoraFormulas, OftTurnsBlocksOfRows) {
  for (const auto& [name, blocks, alpha] : {std::tuple{kTall, Shape{2, 40, 40}, 0.0F},
                                            {kTall, Shape{2, 40, 40}, 0.05F},
                                            {kTall, Shape{20, 4, 4}, 100.0F},
                                            {kConv, Shape{3, 2, 2}, 0.0F},
                                            {kConv, Shape{1, 6, 6}, 0.1F}}) {
    for (const bool rescaled : {false, true}) {
      Layer layer(name);
      layer.add(".oft_blocks", blocks).add_alpha(alpha);
      const Rows base = layer.base();
      if (rescaled) layer.add(".rescale", name == kConv ? Shape{6, 1, 1, 1} : Shape{80, 1});
      const auto n = static_cast<std::size_t>(blocks[1]);
      const HostTensor& tensor = layer.tensors().front();
      const double shorter = alpha > 0 ? shortened(tensor, n, alpha * static_cast<double>(base.size())) : 1;
      Rows turned = base;
      for (std::size_t b = 0; b < base.size() / n; ++b) {
        const Rows r = rotation(block_of(tensor, b, n), shorter);
        for (std::size_t m = 0; m < n; ++m) {
          for (std::size_t c = 0; c < base[0].size(); ++c) {
            double sum = 0;
            for (std::size_t i = 0; i < n; ++i) sum += r[i][m] * base[b * n + i][c];
            turned[b * n + m][c] = rescaled ? sum * layer.rows(".rescale")[b * n + m][0] : sum;
          }
        }
      }
      expect_near(layer.merge(1.0F), turned, 2e-5);
      expect_near(layer.merge(0.5F), plus(base, 0.5, plus(turned, -1, base)), 2e-5);
    }
  }
}

// LyCORIS: rows (c g k) lie as (c k g) while the blocks of stage i turn them, g = 2, k = 2^i·n/2.
TEST(LoraFormulas, BoftTurnsRowsInStagesOfAButterfly) {
  for (const auto& [name, blocks] :
       {std::pair{kTall, Shape{3, 20, 4, 4}}, {kTall, Shape{2, 2, 40, 40}}, {kConv, Shape{1, 3, 2, 2}}}) {
    Layer layer(name);
    layer.add(".oft_blocks", blocks).add_alpha(0);
    const Rows base = layer.base();
    const auto n = static_cast<std::size_t>(blocks[2]);
    const std::size_t count = base.size() / n;
    Rows turned = base;
    for (std::size_t stage = 0; stage < static_cast<std::size_t>(blocks[0]); ++stage) {
      const std::size_t k = (n / 2) << stage;
      std::vector<std::size_t> from;  // rows in the order in which blocks see them
      for (std::size_t c = 0; c < base.size() / (2 * k); ++c) {
        for (std::size_t in_k = 0; in_k < k; ++in_k) {
          for (std::size_t g = 0; g < 2; ++g) from.push_back((c * 2 + g) * k + in_k);
        }
      }
      const Rows before = turned;
      for (std::size_t b = 0; b < count; ++b) {
        const Rows r = rotation(block_of(layer.tensors().front(), stage * count + b, n), 1);
        for (std::size_t i = 0; i < n; ++i) {
          for (std::size_t c = 0; c < base[0].size(); ++c) {
            double sum = 0;
            for (std::size_t j = 0; j < n; ++j) sum += r[i][j] * before[from[b * n + j]][c];
            turned[from[b * n + i]][c] = sum;
          }
        }
      }
    }
    expect_near(layer.merge(1.0F), turned, 2e-5);
  }
}

TEST(LoraFormulas, Ia3ScalesRowsOrInputChannels) {
  for (const auto& [name, factors, input] : {std::tuple{kLinear, Shape{6}, false},
                                             {kLinear, Shape{8}, true},
                                             {kConv, Shape{1, 6, 1, 1}, false},
                                             {kConv, Shape{1, 4, 1, 1}, true}}) {
    std::vector<HostTensor> tensors{noise("unet." + name + ".weight", factors),
                                    scalar("unet." + name + ".on_input", input ? 1.0F : 0.0F)};
    std::vector<double> w;
    for (const auto& row : rows_of(tensors[0])) w.insert(w.end(), row.begin(), row.end());
    const Rows base = rows_of(*unet()->find(name + ".weight"));
    const std::size_t taps = name == kConv ? kTaps : 1;
    expect_near(merged(name + ".weight", {{bind(tensors), 0.5F}}),
                make_rows(base.size(), base[0].size(), [&, input = input](std::size_t o, std::size_t c) {
                  return base[o][c] * (1 + 0.5 * w[input ? c / taps : o]);
                }));
  }
}

TEST(LoraFormulas, DifferencesOfWeightsBiasesAndNormsAreAdded) {
  Layer conv(kConv);
  conv.add(".diff", {6, 4, 3, 3}).add(".diff_b", {6}).add_alpha(5);  // no rank: alpha says nothing
  expect_near(conv.merge(0.5F), plus(conv.base(), 0.5, conv.rows(".diff")));
  expect_near(merged(kConv + ".bias", {{bind(conv.tensors()), -1.5F}}),
              plus(rows_of(*unet()->find(kConv + ".bias")), -1.5, conv.rows(".diff_b")));

  Layer norm(kNorm);
  norm.add(".w_norm", {7}).add(".b_norm", {7});
  expect_near(norm.merge(1.0F), plus(norm.base(), 1, norm.rows(".w_norm")));
  expect_near(merged(kNorm + ".bias", {{bind(norm.tensors()), 1.0F}}),
              plus(rows_of(*unet()->find(kNorm + ".bias")), 1, norm.rows(".b_norm")));
}

TEST(LoraFormulas, TheUpperMatrixsBiasIsScaledAsTheProductIs) {
  Layer layer(kLinear);
  layer.add(".lora_A.weight", {4, 8}).add(".lora_B.weight", {6, 4}).add(".lora_B.bias", {6}).add_alpha(2);
  expect_near(merged(kLinear + ".bias", {{bind(layer.tensors()), 0.5F}}),
              plus(rows_of(*unet()->find(kLinear + ".bias")), 0.5 * 2 / 4, layer.rows(".lora_B.bias")));
}

TEST(LoraFormulas, SeveralAdaptersAddUpInAnyOrderEachFromTheBaseAlone) {
  Layer first(kLinear), second(kLinear), third(kLinear);
  first.add(".lora_up.weight", {6, 3}).add(".lora_down.weight", {3, 8}).add_alpha(1);
  second.add(".lora_B.weight", {6, 2}).add(".lora_A.weight", {2, 8});
  third.add(".lora_up.weight", {6, 1}).add(".lora_down.weight", {1, 8}).add(".dora_scale", {6, 1});
  const Rows third_sum = plus(third.base(), 1, times(third.rows(".lora_up.weight"), third.rows(".lora_down.weight")));
  const Rows adapted = with_lengths(third_sum, third.rows(".dora_scale"), [](std::size_t i, std::size_t) { return i; });
  Rows wanted = plus(first.base(), 0.5 / 3, times(first.rows(".lora_up.weight"), first.rows(".lora_down.weight")));
  wanted = plus(wanted, -0.25, times(second.rows(".lora_B.weight"), second.rows(".lora_A.weight")));
  wanted = plus(wanted, 0.75, plus(adapted, -1, third.base()));

  const WornLora a{bind(first.tensors()), 0.5F}, b{bind(second.tensors()), -0.25F}, c{bind(third.tensors()), 0.75F};
  expect_near(merged(kLinear + ".weight", {a, b, c}), wanted);
  expect_near(merged(kLinear + ".weight", {c, b, a}), wanted);
}

TEST(LoraFormulas, AFusedProjectionChangesQueryKeyAndValue) {
  const std::string fused = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj";
  const HostTensor up = noise(fused + ".lora_up.weight", {12, 2});
  const HostTensor down = noise(fused + ".lora_down.weight", {2, 4});
  const HostTensor bias = noise(fused + ".diff_b", {12});
  const HostTensor scale = noise(fused + ".dora_scale", {12, 1});
  for (const bool dora : {false, true}) {
    std::vector<HostTensor> tensors{up, down, bias};
    if (dora) tensors.push_back(scale);
    const AdaptedSource source(text_encoder_2(), AdapterTarget::text_encoder_2, {{bind(tensors), 1.0F}}, 1);
    const Rows product = times(rows_of(up), rows_of(down));
    for (std::size_t part = 0; part < 3; ++part) {
      const std::string name = kAttention + "qkv"[part] + "_proj";
      const auto slice = [&](const Rows& rows) {
        return Rows(rows.begin() + static_cast<std::ptrdiff_t>(4 * part),
                    rows.begin() + static_cast<std::ptrdiff_t>(4 * part + 4));
      };
      Rows wanted = plus(rows_of(*text_encoder_2()->find(name + ".weight")), 1, slice(product));
      if (dora) {
        wanted = with_lengths(wanted, slice(rows_of(scale)), [](std::size_t i, std::size_t) { return i; });
      }
      expect_near(source.find(name + ".weight").value(), wanted);
      expect_near(source.find(name + ".bias").value(),
                  plus(rows_of(*text_encoder_2()->find(name + ".bias")), 1, slice(rows_of(bias))));
    }
  }
}

TEST(LoraFormulas, WhatIsNotTouchedIsTheBasesOwnTensor) {
  Layer layer(kLinear);
  layer.add(".lora_up.weight", {6, 3}).add(".lora_down.weight", {3, 8});
  const auto lora = bind(layer.tensors());
  const AdaptedSource source(unet(), AdapterTarget::unet, {{lora, 1.0F}}, 1);
  EXPECT_EQ(source.find(kConv + ".weight")->data, unet()->find(kConv + ".weight")->data);
  EXPECT_EQ(source.find(kLinear + ".bias")->data, unet()->find(kLinear + ".bias")->data);
  EXPECT_EQ(source.names(), unet()->names());
  EXPECT_FALSE(source.find("no.such.weight"));
  EXPECT_FALSE(source.info("no.such.weight"));
  const AdaptedSource off(unet(), AdapterTarget::unet, {{lora, 0.0F}}, 1);
  EXPECT_EQ(off.find(kLinear + ".weight")->data, unet()->find(kLinear + ".weight")->data);
}

}  // namespace
}  // namespace darkroom::engine
