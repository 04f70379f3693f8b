#include "engine/models/control_types.h"

#include <array>
#include <cmath>
#include <string>

#include <fmt/ranges.h>

#include "engine/models/unet_blocks.h"

namespace darkroom::engine {
namespace {

struct TypeName {
  std::string_view name;
  int index;
};

constexpr std::array kTypeNames = std::to_array<TypeName>({
    {"openpose", 0}, {"pose", 0},          {"depth", 1},    {"hed", 2},     {"pidi", 2},
    {"scribble", 2}, {"ted", 2},           {"softedge", 2}, {"canny", 3},   {"lineart", 3},
    {"mlsd", 3},     {"anime_lineart", 3}, {"normal", 4},   {"segment", 5}, {"seg", 5},
    {"tile", 6},     {"blur", 6},          {"repaint", 7},  {"inpaint", 7},
});

}  // namespace

Result<int> control_type_index(std::string_view name, std::int64_t num_control_type) {
  std::vector<std::string_view> known;
  for (const TypeName& type : kTypeNames) {
    if (type.index >= num_control_type) continue;
    if (type.name == name) return type.index;
    known.push_back(type.name);
  }
  return fail(ErrorCode::invalid_argument,
              "type is \"{}\"; this ControlNet serves several kinds of pictures and needs one of {}", name,
              fmt::join(known, ", "));
}

std::vector<float> ControlTypes::HostLinear::operator()(const std::vector<float>& x) const {
  std::vector<float> y = bias;
  for (std::size_t o = 0; o < y.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
  }
  return y;
}

std::vector<float> ControlTypes::HostNorm::operator()(const std::vector<float>& x) const {
  constexpr double kEpsilon = 1e-5;
  const auto count = static_cast<double>(x.size());
  double mean = 0;
  for (const float value : x) mean += value / count;
  double variance = 0;
  for (const float value : x) variance += (value - mean) * (value - mean) / count;
  std::vector<float> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = static_cast<float>((x[i] - mean) / std::sqrt(variance + kEpsilon)) * weight[i] + bias[i];
  }
  return y;
}

std::vector<float> ControlTypes::values(const Loader& root, std::string_view name, const Shape& shape) {
  const HostTensor tensor = root.take(name, shape);
  std::vector<float> result(static_cast<std::size_t>(tensor.elements()));
  to_float(tensor.dtype, tensor.data, result.data(), result.size());
  return result;
}

ControlTypes::HostLinear ControlTypes::load_linear(const Loader& root, std::int64_t in, std::int64_t out) {
  return {.weight = values(root, "weight", {out, in}), .bias = values(root, "bias", {out})};
}

ControlTypes::HostNorm ControlTypes::load_norm(const Loader& root, std::int64_t channels) {
  return {.weight = values(root, "weight", {channels}), .bias = values(root, "bias", {channels})};
}

ControlTypes ControlTypes::load(const Loader& root, std::int64_t num, std::int64_t channels,
                                std::int64_t time_id_channels) {
  ControlTypes types;
  types.num_ = num;
  types.channels_ = channels;
  types.time_id_channels_ = time_id_channels;
  types.task_embedding_ = values(root, "task_embedding", {num, channels});
  for (int i = 0; root.has(fmt::format("transformer_layes.{}.ln_1.weight", i)); ++i) {
    const Loader layer = root / "transformer_layes" / i;
    const auto own = static_cast<std::ptrdiff_t>(channels);
    const std::vector<float> in_proj = values(layer, "attn.in_proj_weight", {3 * channels, channels});
    const std::vector<float> in_bias = values(layer, "attn.in_proj_bias", {3 * channels});
    types.transformer_layes_.push_back(
        {.ln_1 = load_norm(layer / "ln_1", channels),
         .value = {.weight = {in_proj.end() - own * own, in_proj.end()}, .bias = {in_bias.end() - own, in_bias.end()}},
         .out_proj = load_linear(layer / "attn" / "out_proj", channels, channels),
         .ln_2 = load_norm(layer / "ln_2", channels),
         .c_fc = load_linear(layer / "mlp" / "c_fc", channels, 4 * channels),
         .c_proj = load_linear(layer / "mlp" / "c_proj", 4 * channels, channels)});
  }
  types.spatial_ch_projs_ = load_linear(root / "spatial_ch_projs", channels, channels);
  const std::int64_t width = 4 * channels;
  types.time_linear_1_ = load_linear(root / "control_add_embedding" / "linear_1", num * time_id_channels, width);
  types.time_linear_2_ = load_linear(root / "control_add_embedding" / "linear_2", width, width);
  return types;
}

std::vector<float> ControlTypes::time_embedding(int type) const {
  std::vector<float> sinusoids;
  for (int i = 0; i < num_; ++i) append_sinusoid(i == type ? 1.0F : 0.0F, time_id_channels_, sinusoids);
  std::vector<float> hidden = time_linear_1_(sinusoids);
  for (float& value : hidden) value /= 1.0F + std::exp(-value);
  return time_linear_2_(hidden);
}

Tensor ControlTypes::shifted(const Tensor& pictures, int type) const {
  std::vector<float> all = to_host(pictures);
  const std::size_t each = all.size() / static_cast<std::size_t>(pictures.dim(0));
  for (std::size_t begin = 0; begin < all.size(); begin += each) {
    const std::span<float> picture = std::span(all).subspan(begin, each);
    const std::vector<float> added = shift(picture, type);
    for (std::size_t i = 0; i < each; ++i) picture[i] += added[i % added.size()];
  }
  return from_host(pictures.backend(), all, pictures.shape());
}

std::vector<float> ControlTypes::shift(std::span<const float> pixels, int type) const {
  const auto channels = static_cast<std::size_t>(channels_);
  std::vector<double> sums(channels);
  for (std::size_t i = 0; i < pixels.size(); ++i) sums[i % channels] += pixels[i];
  std::vector<float> x(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    x[c] = static_cast<float>(sums[c] * static_cast<double>(channels) / static_cast<double>(pixels.size())) +
           task_embedding_[static_cast<std::size_t>(type) * channels + c];
  }
  const auto add = [&](const std::vector<float>& change) {
    for (std::size_t c = 0; c < channels; ++c) x[c] += change[c];
  };
  for (const ResidualAttention& layer : transformer_layes_) {
    // compat(diffusers): its attention runs over the rows of a pass instead of over the tokens of a row. Those rows are
    // the same picture's, so that each sees values equal to its own.
    add(layer.out_proj(layer.value(layer.ln_1(x))));
    std::vector<float> hidden = layer.c_fc(layer.ln_2(x));
    for (float& value : hidden) value /= 1.0F + std::exp(-1.702F * value);  // quick GELU
    add(layer.c_proj(hidden));
  }
  return spatial_ch_projs_(x);
}

}  // namespace darkroom::engine
