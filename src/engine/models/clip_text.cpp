#include "engine/models/clip_text.h"

#include <algorithm>

#include "base/error.h"

namespace darkroom::engine {

ClipAttention ClipAttention::load(const Loader& loader, const ClipTextConfig& config) {
  const std::int64_t width = config.hidden_size;
  return {.qkv_proj = Linear::load_joined({loader / "q_proj", loader / "k_proj", loader / "v_proj"}, width, width),
          .out_proj = Linear::load(loader / "out_proj", width, width),
          .heads = static_cast<int>(config.num_attention_heads)};
}

Tensor ClipAttention::operator()(const Tensor& x, const Tensor& residual) const {
  const std::int64_t width = x.channels();
  const Tensor qkv = qkv_proj(x);  // [N,77,3C]
  const Tensor h = attend(*out_proj.network, qkv.slice_channels(0, width), qkv.slice_channels(width, width),
                          qkv.slice_channels(2 * width, width), heads, /*causal=*/true);
  return out_proj(h, {.residual = &residual, .out = DType::f32});
}

ClipMlp ClipMlp::load(const Loader& loader, const ClipTextConfig& config) {
  return {.fc1 = Linear::load(loader / "fc1", config.hidden_size, config.intermediate_size),
          .fc2 = Linear::load(loader / "fc2", config.intermediate_size, config.hidden_size),
          .activation = config.hidden_act == HiddenAct::quick_gelu ? Activation::quick_gelu : Activation::gelu};
}

Tensor ClipMlp::operator()(const Tensor& x, const Tensor& residual) const {
  return fc2(fc1(x, {.activation = activation}), {.residual = &residual, .out = DType::f32});
}

ClipEncoderLayer ClipEncoderLayer::load(const Loader& loader, const ClipTextConfig& config) {
  const auto epsilon = static_cast<float>(config.layer_norm_eps);
  return {.layer_norm1 = LayerNorm::load(loader / "layer_norm1", config.hidden_size, epsilon),
          .self_attn = ClipAttention::load(loader / "self_attn", config),
          .layer_norm2 = LayerNorm::load(loader / "layer_norm2", config.hidden_size, epsilon),
          .mlp = ClipMlp::load(loader / "mlp", config)};
}

Tensor ClipEncoderLayer::operator()(const Tensor& x) const {
  const Tensor h = self_attn(layer_norm1(x), x);
  return mlp(layer_norm2(h), h);
}

ClipTextEncoder::ClipTextEncoder(Network& network, const WeightSource& source, const ClipTextConfig& config,
                                 DType compute)
    : network_(network), config_(config) {
  const Loader root(network, source, compute);
  const Loader text = root / "text_model";
  token_embedding_ = text.take("embeddings.token_embedding.weight", {config.vocab_size, config.hidden_size});
  position_embedding_ =
      text.take("embeddings.position_embedding.weight", {config.max_position_embeddings, config.hidden_size});
  // Without a projection nothing reads the last layer: SDXL takes the states before it.
  const std::int64_t layers = config.has_projection ? config.num_hidden_layers : config.num_hidden_layers - 1;
  for (int i = 0; i < layers; ++i) layers_.push_back(ClipEncoderLayer::load(text / "encoder" / "layers" / i, config));
  if (config.has_projection) {
    final_layer_norm_ =
        LayerNorm::load(text / "final_layer_norm", config.hidden_size, static_cast<float>(config.layer_norm_eps));
    text_projection_ = Linear::load(root / "text_projection", config.hidden_size, config.projection_dim, false);
  }
}

// token embedding + position embedding, in float32: [N,77,C]
Tensor ClipTextEncoder::embed(std::span<const int> ids, int rows, const ExtraTokens& extra) const {
  const auto width = static_cast<std::size_t>(config_.hidden_size);
  const auto length = static_cast<std::size_t>(config_.max_position_embeddings);
  DR_ASSERT(ids.size() == static_cast<std::size_t>(rows) * length);
  const auto extra_count = static_cast<int>(extra.rows.size() / width);

  std::vector<float> positions(length * width);
  to_float(position_embedding_.dtype, position_embedding_.data, positions.data(), positions.size());
  std::vector<float> states(ids.size() * width);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    float* state = states.data() + i * width;
    const int id = ids[i];
    if (extra_count > 0 && id >= extra.first_id && id < extra.first_id + extra_count) {
      const float* row = extra.rows.data() + static_cast<std::size_t>(id - extra.first_id) * width;
      std::copy_n(row, width, state);
    } else {
      DR_ASSERT(id >= 0 && id < config_.vocab_size);
      const std::size_t row_bytes = width * size_of(token_embedding_.dtype);
      to_float(token_embedding_.dtype, token_embedding_.data + static_cast<std::size_t>(id) * row_bytes, state, width);
    }
    const float* position = positions.data() + (i % length) * width;
    for (std::size_t c = 0; c < width; ++c) state[c] += position[c];
  }
  return from_host(network_.backend(), states,
                   {rows, config_.max_position_embeddings, static_cast<std::int64_t>(width)});
}

// Which row of the flattened [N·77, C] states each text ends at.
// compat(transformers): configs from before 2023 say eos_token_id 2 although the token is 49407; there the end is the
// first of the largest ids of the vocabulary, above which learned words lie.
std::vector<std::int64_t> ClipTextEncoder::end_positions(std::span<const int> ids, int rows) const {
  const std::int64_t length = config_.max_position_embeddings;
  std::vector<std::int64_t> ends;
  for (int n = 0; n < rows; ++n) {
    const auto text = ids.subspan(static_cast<std::size_t>(n * length), static_cast<std::size_t>(length));
    const auto in_vocabulary = [&](int id) { return id < config_.vocab_size ? id : -1; };
    auto end = config_.eos_token_id == 2 ? std::ranges::max_element(text, {}, in_vocabulary)
                                         : std::ranges::find(text, config_.eos_token_id);
    if (end == text.end()) end = text.begin();  // as argmax over no match
    ends.push_back(n * length + (end - text.begin()));
  }
  return ends;
}

ClipTextOutput ClipTextEncoder::operator()(std::span<const int> ids, int rows, int clip_skip,
                                           const ExtraTokens& extra) const {
  const std::int64_t wanted = config_.num_hidden_layers - 1 - clip_skip;  // layers run before the states that are taken
  if (clip_skip < 0 || wanted < 1) {
    throw_failure(ErrorCode::invalid_argument, "clip_skip {} is outside 0 to {}, as the text encoder has {} layers",
                  clip_skip, config_.num_hidden_layers - 2, config_.num_hidden_layers);
  }
  ClipTextOutput output;
  Tensor x = embed(ids, rows, extra);
  const std::int64_t last = config_.has_projection ? config_.num_hidden_layers : wanted;
  for (std::int64_t i = 0; i < last; ++i) {
    x = layers_[static_cast<std::size_t>(i)](x);
    if (i + 1 == wanted) output.hidden_states = x;
  }
  if (config_.has_projection) {
    const std::vector<float> states = to_host((*final_layer_norm_)(x, DType::f32));
    std::vector<float> ends;
    for (const std::int64_t row : end_positions(ids, rows)) {
      const auto begin = states.begin() + row * config_.hidden_size;
      ends.insert(ends.end(), begin, begin + config_.hidden_size);
    }
    output.pooled =
        (*text_projection_)(from_host(network_.backend(), ends, {rows, config_.hidden_size}), {.out = DType::f32});
  }
  return output;
}

}  // namespace darkroom::engine
