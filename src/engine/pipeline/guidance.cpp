#include "engine/pipeline/guidance.h"

#include <cmath>

namespace darkroom::engine {
namespace {

// Sample standard deviation, as torch.std.
double deviation(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const float value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

}  // namespace

void guide(const Guidance& guidance, const Predictions& predictions, int pictures, std::span<float> out) {
  const auto& [unguided, guided, perturbed] = predictions;
  const std::size_t each = guided.size() / static_cast<std::size_t>(pictures);
  const bool rescaled = guidance.rescale > 0 && !unguided.empty();
  for (std::size_t begin = 0; begin < guided.size(); begin += each) {
    const double wanted = rescaled ? deviation(guided.subspan(begin, each)) : 0;
    for (std::size_t i = begin; i < begin + each; ++i) {
      const float with_prompt = guided[i];
      float sum = with_prompt;
      if (!unguided.empty()) sum = unguided[i] + guidance.scale * (with_prompt - unguided[i]);
      if (!perturbed.empty()) sum += guidance.pag_scale * (with_prompt - perturbed[i]);
      out[i] = sum;
    }
    if (rescaled) {
      const auto ratio = static_cast<float>(wanted / deviation(out.subspan(begin, each)));
      const float factor = guidance.rescale * ratio + (1.0F - guidance.rescale);
      for (float& value : out.subspan(begin, each)) value *= factor;
    }
  }
}

}  // namespace darkroom::engine
