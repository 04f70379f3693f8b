// A Union ControlNet against a plain one that is given, by hand, what a kind of picture changes.
#include <cmath>
#include <map>

#include <gtest/gtest.h>

#include "engine/backend/ref/ref_backend.h"
#include "engine/models/controlnet.h"
#include "engine/weights/checkpoint.h"
#include "tests/reference/models/states.h"
#include "tests/support/tiny_models.h"

namespace darkroom::engine {
namespace {

using darkroom::test::tiny_model;
using Row = std::vector<double>;

constexpr int kTypes = 8;
constexpr int kChannels = 32;  // of tiny-controlnet-a's first level
constexpr int kTimeIds = 32;   // addition_time_embed_dim
constexpr int kTime = 128;     // time_embed_dim
constexpr int kHeads = 8;

// Another source with tensors beside it.
class WithMore final : public WeightSource {
 public:
  explicit WithMore(WeightSourcePtr base) : base_(std::move(base)) {}
  void add(const std::string& name, const Shape& shape) {
    auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(shape.elements()));
    auto seed = static_cast<float>(tensors_.size());
    for (float& value : *values) value = 0.2F * std::sin(seed += 1.7F);
    values_[name] = values;
    tensors_[name] = {.name = name,
                      .dtype = DType::f32,
                      .shape = shape,
                      .data = reinterpret_cast<const std::byte*>(values->data()),
                      .owner = values};
  }
  const std::vector<float>& values(const std::string& name) const { return *values_.at(name); }

  std::optional<HostTensor> find(std::string_view name) const override {
    const auto found = tensors_.find(std::string(name));
    return found == tensors_.end() ? base_->find(name) : std::optional(found->second);
  }
  std::optional<TensorInfo> info(std::string_view name) const override {
    const auto found = tensors_.find(std::string(name));
    if (found == tensors_.end()) return base_->info(name);
    return TensorInfo{found->second.dtype, found->second.shape};
  }
  std::vector<std::string> names() const override { return base_->names(); }
  std::string describe() const override { return base_->describe(); }

 private:
  WeightSourcePtr base_;
  std::map<std::string, HostTensor> tensors_;
  std::map<std::string, std::shared_ptr<std::vector<float>>> values_;
};

Row linear(const WithMore& w, const std::string& weight, const std::string& bias, const Row& x) {
  const std::vector<float>& b = w.values(bias);
  Row y(b.begin(), b.end());
  for (std::size_t o = 0; o < y.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += w.values(weight)[o * x.size() + i] * x[i];
  }
  return y;
}

Row layer_norm(const WithMore& w, const std::string& name, const Row& x) {
  double mean = 0, variance = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  Row y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    y.push_back((x[i] - mean) / std::sqrt(variance + 1e-5) * w.values(name + ".weight")[i] +
                w.values(name + ".bias")[i]);
  }
  return y;
}

// torch's MultiheadAttention over a sequence, as its definition.
std::vector<Row> attend(const WithMore& w, const std::string& name, const std::vector<Row>& sequence) {
  constexpr int kWidth = kChannels / kHeads;
  std::vector<Row> qkv;
  for (const Row& x : sequence) qkv.push_back(linear(w, name + ".in_proj_weight", name + ".in_proj_bias", x));
  std::vector<Row> result;
  for (const Row& one : qkv) {
    Row joined(kChannels);
    for (int head = 0; head < kHeads; ++head) {
      Row scores;
      double sum = 0;
      for (const Row& other : qkv) {
        double dot = 0;
        for (int c = head * kWidth; c < (head + 1) * kWidth; ++c) {
          dot += one[static_cast<std::size_t>(c)] *
                 other[static_cast<std::size_t>(kChannels) + static_cast<std::size_t>(c)];
        }
        scores.push_back(std::exp(dot / std::sqrt(kWidth)));
        sum += scores.back();
      }
      for (std::size_t k = 0; k < qkv.size(); ++k) {
        for (int c = head * kWidth; c < (head + 1) * kWidth; ++c) {
          joined[static_cast<std::size_t>(c)] +=
              scores[k] / sum * qkv[k][std::size_t{2} * kChannels + static_cast<std::size_t>(c)];
        }
      }
    }
    result.push_back(linear(w, name + ".out_proj.weight", name + ".out_proj.bias", joined));
  }
  return result;
}

std::vector<float> wave(std::size_t count, float step) {
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(std::sin(step * static_cast<float>(i)));
  return values;
}

// [1,h,w,C] → [2,h,w,C]
Tensor two(const Tensor& one) {
  std::vector<float> values = to_host(one);
  values.reserve(2 * values.size());
  std::copy_n(values.begin(), values.size(), std::back_inserter(values));
  return from_host(one.backend(), values, {2, one.dim(1), one.dim(2), one.channels()});
}

TEST(UnionControlNet, EqualsAPlainOneThatIsToldTheKind) {
  const auto part = value_or_throw(open_controlnet(tiny_model("tiny-controlnet-a")));
  WithMore weights(part.weights);
  weights.add("task_embedding", {kTypes, kChannels});
  const std::string layer = "transformer_layes.0.";
  weights.add(layer + "attn.in_proj_weight", {3 * kChannels, kChannels});
  weights.add(layer + "attn.in_proj_bias", {3 * kChannels});
  weights.add(layer + "attn.out_proj.weight", {kChannels, kChannels});
  weights.add(layer + "attn.out_proj.bias", {kChannels});
  for (const char* norm : {"ln_1", "ln_2"}) {
    weights.add(layer + norm + ".weight", {kChannels});
    weights.add(layer + norm + ".bias", {kChannels});
  }
  weights.add(layer + "mlp.c_fc.weight", {4 * kChannels, kChannels});
  weights.add(layer + "mlp.c_fc.bias", {4 * kChannels});
  weights.add(layer + "mlp.c_proj.weight", {kChannels, 4 * kChannels});
  weights.add(layer + "mlp.c_proj.bias", {kChannels});
  weights.add("spatial_ch_projs.weight", {kChannels, kChannels});
  weights.add("spatial_ch_projs.bias", {kChannels});
  weights.add("control_add_embedding.linear_1.weight", {kTime, kTypes * kTimeIds});
  weights.add("control_add_embedding.linear_1.bias", {kTime});
  weights.add("control_add_embedding.linear_2.weight", {kTime, kTime});
  weights.add("control_add_embedding.linear_2.bias", {kTime});

  const auto backend = make_ref_backend();
  Network plain_network(*backend);
  const ControlNet plain(plain_network, *part.weights, part.config, DType::f32);
  ControlNetConfig config = part.config;
  config.num_control_type = kTypes;
  Network union_network(*backend);
  const ControlNet net(union_network, weights, config, DType::f32);
  const int type = value_or_throw(control_type_index("canny", kTypes));
  ASSERT_EQ(type, 3);

  // What the kind adds to the time embedding: a one among zeros, each number a sinusoid.
  Row sinusoids;
  for (int i = 0; i < kTypes; ++i) {
    const double value = i == type ? 1.0 : 0.0;
    for (int k = 0; k < kTimeIds / 2; ++k)
      sinusoids.push_back(std::cos(value * std::pow(10000.0, -2.0 * k / kTimeIds)));
    for (int k = 0; k < kTimeIds / 2; ++k)
      sinusoids.push_back(std::sin(value * std::pow(10000.0, -2.0 * k / kTimeIds)));
  }
  Row hidden =
      linear(weights, "control_add_embedding.linear_1.weight", "control_add_embedding.linear_1.bias", sinusoids);
  for (double& h : hidden) h /= 1 + std::exp(-h);
  const Row added =
      linear(weights, "control_add_embedding.linear_2.weight", "control_add_embedding.linear_2.bias", hidden);
  const std::vector<float> added_f(added.begin(), added.end());

  // What it adds to the picture's embedding, over two equal rows as in a guided pass.
  const Tensor picture = from_host(*backend, wave(64 * 64 * 3, 0.37F), {1, 64, 64, 3});
  const Tensor embedded = plain.embed(picture);
  const std::vector<float> pixels = to_host(embedded);
  Row mean(kChannels);
  for (std::size_t i = 0; i < pixels.size(); ++i)
    mean[i % kChannels] += pixels[i] * kChannels / static_cast<double>(pixels.size());
  for (std::size_t c = 0; c < kChannels; ++c) {
    mean[c] += weights.values("task_embedding")[static_cast<std::size_t>(type) * kChannels + c];
  }
  std::vector<Row> rows{mean, mean};
  const std::vector<Row> attended =
      attend(weights, layer + "attn",
             {layer_norm(weights, layer + "ln_1", rows[0]), layer_norm(weights, layer + "ln_1", rows[1])});
  Row x = rows[0];
  for (std::size_t c = 0; c < kChannels; ++c) x[c] += attended[0][c];
  Row inner =
      linear(weights, layer + "mlp.c_fc.weight", layer + "mlp.c_fc.bias", layer_norm(weights, layer + "ln_2", x));
  for (double& h : inner) h /= 1 + std::exp(-1.702 * h);
  const Row change = linear(weights, layer + "mlp.c_proj.weight", layer + "mlp.c_proj.bias", inner);
  for (std::size_t c = 0; c < kChannels; ++c) x[c] += change[c];
  const Row shift = linear(weights, "spatial_ch_projs.weight", "spatial_ch_projs.bias", x);
  std::vector<float> shifted;
  for (int n = 0; n < 2; ++n) {
    for (std::size_t i = 0; i < pixels.size(); ++i)
      shifted.push_back(static_cast<float>(pixels[i] + shift[i % kChannels]));
  }

  const Tensor latents = from_host(*backend, wave(2 * 8 * 8 * 4, 0.11F), {2, 8, 8, 4});
  const Tensor context = from_host(*backend, wave(2 * 77 * 128, 0.013F), {2, 77, 128});
  const Tensor pooled = from_host(*backend, wave(2 * 64, 0.5F), {2, 64});
  const std::vector<float> time_ids = {128, 128, 0, 0, 128, 128, 128, 128, 0, 0, 128, 128};
  const std::vector<float> timesteps = {501};
  const TimeInputs inputs{.timesteps = timesteps, .pooled = pooled, .time_ids = time_ids};
  TimeInputs told = inputs;
  told.added = added_f;
  const std::vector<float> scales(net.scale_count(), 1.0F);

  // What a net adds to zeros in the middle.
  const auto middle_of = [&](const ControlNet& of, const Tensor& seen, const TimeRows& time) {
    EncoderStates sum = test::zero_states(*backend, part.config.unet, 2, 8, 8);
    const auto prompt = of.prompt_keys(context);
    of.add_to(sum, 0, {.latents = latents, .picture = seen, .time = time, .prompt = prompt, .scales = scales});
    return to_host(sum.middle);
  };
  const std::vector<float> a = middle_of(net, two(net.embed(picture, type)), net.time_rows(inputs, type)[0]);
  const std::vector<float> b =
      middle_of(plain, from_host(*backend, shifted, {2, 8, 8, kChannels}), plain.time_rows(told)[0]);
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-3 * (1 + std::abs(b[i])));
  const std::vector<float> other = to_host(net.embed(picture, 0));
  EXPECT_NE(other, std::vector<float>(shifted.begin(), shifted.begin() + static_cast<std::ptrdiff_t>(other.size())));
}

TEST(UnionControlNet, NamesTheKindsThatItKnows) {
  const auto unknown = control_type_index("cany", 6);
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("canny"), std::string::npos);
  EXPECT_EQ(unknown.error().message.find("tile"), std::string::npos);
  EXPECT_EQ(control_type_index("tile", 8).value(), 6);
}

}  // namespace
}  // namespace darkroom::engine
