#include "engine/weights/embedding.h"

#include <string>

namespace darkroom::engine {
namespace {

// A vector or several: [width] or [count, width], of any floating type.
bool is_vectors(const TensorInfo& info) {
  return (info.shape.rank() == 1 || info.shape.rank() == 2) && info.shape.elements() > 0 && is_floating(info.dtype);
}

LearnedVectors read(const WeightSource& source, const std::string& name) {
  const HostTensor tensor = *source.find(name);
  LearnedVectors vectors{.width = tensor.shape[-1],
                         .rows = std::vector<float>(static_cast<std::size_t>(tensor.elements()))};
  to_float(tensor.dtype, tensor.data, vectors.rows.data(), vectors.rows.size());
  return vectors;
}

}  // namespace

Result<Embedding> read_embedding(const WeightSource& file, std::int64_t clip_l_width, std::int64_t clip_g_width) {
  Embedding embedding;
  std::string others;
  for (const std::string& name : file.names()) {
    const TensorInfo info = *file.info(name);
    if (!is_vectors(info)) continue;
    const std::int64_t width = info.shape[-1];
    const bool named_g = name == "clip_g";
    const bool named_l = name == "clip_l";
    if (width == clip_g_width && !named_l && embedding.clip_g.rows.empty()) {
      embedding.clip_g = read(file, name);
    } else if (width == clip_l_width && !named_g && embedding.clip_l.rows.empty()) {
      embedding.clip_l = read(file, name);
    } else {
      others += fmt::format("{}'{}' is {} wide", others.empty() ? "" : ", ", name, width);
    }
  }
  if (embedding.clip_l.rows.empty() && embedding.clip_g.rows.empty()) {
    return fail(ErrorCode::unsupported,
                "{} is no textual inversion for this model, whose text encoders are {} and {} wide: {}",
                file.describe(), clip_l_width, clip_g_width, others.empty() ? "it holds no vectors" : others);
  }
  return embedding;
}

}  // namespace darkroom::engine
