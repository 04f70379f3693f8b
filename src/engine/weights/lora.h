// Adapters (LoRA and its relatives): files of small tensors that change a model's weights. An adapter is never applied
// to weights that are laid out: an AdaptedSource gives the base's tensors with the adapters' changes added, and the
// layers that they touch are laid out again from it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/weights/embedding.h"
#include "engine/weights/lora_formulas.h"
#include "engine/weights/lora_layer.h"
#include "engine/weights/lora_matrix.h"
#include "engine/weights/lora_metadata.h"
#include "engine/weights/lora_names.h"
#include "engine/weights/weight_source.h"

namespace darkroom::engine {

// How an adapter changes one tensor of the base: by the change of a layer, or by its part of that where the layer
// stands for several, stacked.
struct TensorChange {
  std::shared_ptr<const AdapterLayer> layer;
  std::size_t part = 0;  // of layer->places
};

// One file or folder of PEFT's, its layers found in one model.
class Lora {
 public:
  // Errors: those of opening it; corrupt_data (a tensor whose shape does not fit, an incomplete layer); unsupported
  // (made for another kind of model, by name; or nothing in it belongs to the model).
  static Result<std::shared_ptr<const Lora>> open(const std::filesystem::path& path, const LayerNames& names);
  // The same of a file that is open already.
  static Result<std::shared_ptr<const Lora>> bind(const WeightSource& file, const AdapterMetadata& settings,
                                                  const LayerNames& names);

  // What it adds to a tensor of the base; empty where it leaves it alone.
  std::span<const TensorChange> changes(AdapterTarget target, std::string_view tensor) const;
  // The tensors that it changes.
  std::vector<std::string> touched(AdapterTarget target) const;

  // The words that it teaches the text encoders: textual inversions that are bundled with it, as OneTrainer does.
  const std::vector<LearnedWord>& words() const { return words_; }

  const std::string& name() const { return name_; }  // what messages call it: the file
  // Tensors of the file that have a place in the model, and those that have none.
  int applied() const { return applied_; }
  const std::vector<std::string>& unmatched() const { return unmatched_; }
  int total() const { return applied_ + static_cast<int>(unmatched_.size()); }

 private:
  using Changes = std::map<std::string, std::vector<TensorChange>, std::less<>>;
  void add(const AdapterLayer& layer, const LayerPlace& place);
  void add_words(std::map<std::string, std::vector<HostTensor>>&& bundled, const LayerNames& names);

  std::string name_;
  std::map<AdapterTarget, Changes> changes_;  // by the base's tensor
  std::vector<LearnedWord> words_;
  int applied_ = 0;
  std::vector<std::string> unmatched_;
};

// An adapter and how strongly a network wears it.
struct WornLora {
  std::shared_ptr<const Lora> lora;
  float strength = 1.0F;
};

// A network's weights with adapters: W + Σ strength·ΔW, each ΔW computed from the base alone, so their order does not
// matter. What no adapter touches is the base's own tensor.
class AdaptedSource final : public WeightSource {
 public:
  // threads: 0 is OpenMP's own number.
  AdaptedSource(WeightSourcePtr base, AdapterTarget target, std::vector<WornLora> worn, int threads);

  std::optional<HostTensor> find(std::string_view name) const override;
  std::optional<TensorSum> find_sum(std::string_view name) const override;
  std::optional<TensorInfo> info(std::string_view name) const override;
  std::vector<std::string> names() const override { return base_->names(); }
  std::string describe() const override { return base_->describe(); }

 private:
  struct Step {
    const TensorChange* change;
    float strength;
  };
  std::vector<Step> steps(std::string_view name) const;
  TensorRows base_rows(const AdapterLayer& layer) const;
  FloatMatrix changed_weight(const HostTensor& base, const std::vector<Step>& steps) const;
  FloatMatrix changed_bias(const HostTensor& base, const std::vector<Step>& steps) const;

  WeightSourcePtr base_;
  AdapterTarget target_;
  std::vector<WornLora> worn_;
  int threads_;
};

}  // namespace darkroom::engine
