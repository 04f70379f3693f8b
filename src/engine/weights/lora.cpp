#include "engine/weights/lora.h"

#include <algorithm>
#include <utility>

#include "engine/weights/adapter_file.h"
#include "engine/weights/lora_family.h"

namespace darkroom::engine {
namespace {

// The tensors of one layer of the file.
struct Found {
  LayerPlace place;
  AdapterTensors tensors;
};

// Whether the base has what a tensor of this role changes, for all layers of a place.
bool has_place(const WeightSource& base, const LayerPlace& place, AdapterRole role) {
  const bool needs_bias = role == AdapterRole::bias_difference || role == AdapterRole::up_bias;
  return std::ranges::all_of(place.layers, [&](const std::string& layer) {
    return base.contains(layer + ".weight") && (!needs_bias || base.contains(layer + ".bias"));
  });
}

// The weight that a layer changes; of several, stacked.
Result<AdaptedShape> adapted_shape(const WeightSource& base, const LayerPlace& place) {
  AdaptedShape shape;
  for (std::size_t i = 0; i < place.layers.size(); ++i) {
    const Shape found = base.info(place.layers[i] + ".weight")->shape;
    const auto dim = [&](int axis) { return axis < found.rank() ? found[axis] : 1; };
    const AdaptedShape one{dim(0), dim(1), dim(2), dim(3)};
    if (found.rank() < 1 || found.rank() > 4 || (i > 0 && one.columns() != shape.columns())) {
      return fail(ErrorCode::unsupported, "{}: {} {} cannot be adapted", base.describe(), place.layers[i], found.str());
    }
    shape = {i == 0 ? one.out : shape.out + one.out, one.in, one.kernel_h, one.kernel_w};
  }
  return shape;
}

// PEFT scales LoKr by the rank that it was asked for, though whole factors have none; of the others tensors say the
// rank.
std::optional<float> default_scale(const AdapterMetadata& settings, const std::string& layer,
                                   const AdapterTensors& tensors) {
  for (const AdapterRole role : {AdapterRole::down, AdapterRole::hada_w1_b}) {
    const auto right = tensors.find(role);
    if (right != tensors.end() && right->second.shape.rank() > 0) return settings.scale(layer, right->second.shape[0]);
  }
  const bool kronecker = tensors.contains(AdapterRole::lokr_w1) || tensors.contains(AdapterRole::lokr_w1_a);
  return kronecker ? settings.scale(layer, std::nullopt) : std::nullopt;
}

// What a tensor of the file is to its layer. "weight" alone, which could be any model's, is (IA)³'s only beside its
// "on_input".
std::optional<AdapterKey> adapter_key(const WeightSource& file, std::string_view name) {
  constexpr std::string_view kWeight = ".weight";
  auto key = split_adapter_key(name);
  if (key || !name.ends_with(kWeight)) return key;
  std::string layer(name.substr(0, name.size() - kWeight.size()));
  if (!file.contains(layer + ".on_input")) return std::nullopt;
  return AdapterKey{std::move(layer), AdapterRole::ia3_weight};
}

// "bundle_emb.TOKEN.clip_g", "bundle_emb.TOKEN.string_to_param.*": a textual inversion's tensor, and the word that it
// is for.
struct BundledTensor {
  std::string token;
  std::string tensor;
};
std::optional<BundledTensor> split_bundled(std::string_view name) {
  constexpr std::string_view kPrefix = "bundle_emb.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const std::size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos) return std::nullopt;
  return BundledTensor{std::string(name.substr(0, dot)), std::string(name.substr(dot + 1))};
}

// 0 where the model lacks the encoder.
std::int64_t token_width(const LayerNames& names, AdapterTarget encoder) {
  const WeightSource* base = names.find_base(encoder);
  const auto table = base == nullptr ? std::nullopt : base->info("text_model.embeddings.token_embedding.weight");
  return table && table->shape.rank() == 2 ? table->shape[1] : 0;
}

}  // namespace

Result<std::shared_ptr<const Lora>> Lora::open(const std::filesystem::path& path, const LayerNames& names) {
  auto adapter = open_adapter(path);
  if (!adapter) return tl::unexpected(std::move(adapter.error()));
  return bind(*adapter->file.weights, adapter->settings, names);
}

Result<std::shared_ptr<const Lora>> Lora::bind(const WeightSource& file, const AdapterMetadata& settings,
                                               const LayerNames& names) {
  if (const Family family = family_of_lora(file); family != Family::unknown && family != Family::sdxl) {
    return fail(ErrorCode::unsupported, "{} is a LoRA for {}, the model is {}", file.describe(), to_string(family),
                to_string(Family::sdxl));
  }

  // 1. Each tensor of the file: a part of a layer or of a word, or without a place.
  auto lora = std::make_shared<Lora>();
  lora->name_ = file.describe();
  std::map<std::string, Found> layers;
  std::map<std::string, std::vector<HostTensor>> bundled;
  for (const std::string& name : file.names()) {
    if (const auto part = split_bundled(name)) {
      bundled[part->token].push_back(*file.find(name));
      continue;
    }
    const auto key = adapter_key(file, name);
    const auto place = key ? names.find(key->layer) : std::nullopt;
    if (!place || !has_place(names.base(place->target), *place, key->role)) {
      lora->unmatched_.push_back(name);
      continue;
    }
    ++lora->applied_;
    Found& found = layers.try_emplace(key->layer, Found{*place, {}}).first->second;
    if (!found.tensors.try_emplace(key->role, *file.find(name)).second) {
      return fail(ErrorCode::corrupt_data, "{}: {} says again what another tensor of its layer says", file.describe(),
                  name);
    }
  }
  // An alpha alone scales nothing: what it goes with has a form that is not known.
  std::erase_if(layers, [&](const auto& layer) {
    const AdapterTensors& tensors = layer.second.tensors;
    if (tensors.size() != 1 || !tensors.contains(AdapterRole::alpha)) return false;
    lora->unmatched_.push_back(tensors.at(AdapterRole::alpha).name);
    --lora->applied_;
    return true;
  });
  lora->add_words(std::move(bundled), names);
  if (layers.empty() && lora->words_.empty()) {
    return fail(ErrorCode::unsupported, "{}: none of its {} tensors belongs to a layer of the model{}", file.describe(),
                lora->total(),
                lora->unmatched_.empty() ? "" : fmt::format("; the first is {}", lora->unmatched_.front()));
  }

  // 2. Each layer, its shapes held against the base.
  for (auto& [name, found] : layers) {
    const auto shape = adapted_shape(names.base(found.place.target), found.place);
    if (!shape) return tl::unexpected(shape.error());
    const auto scale = default_scale(settings, name, found.tensors);
    auto layer = make_adapter_layer(name, std::move(found.tensors), *shape, scale);
    if (!layer) return fail(layer.error().code, "{}: {}", file.describe(), layer.error().message);
    layer->places = found.place.layers;
    lora->add(*layer, found.place);
  }
  return lora;
}

void Lora::add(const AdapterLayer& layer, const LayerPlace& place) {
  const auto shared = std::make_shared<const AdapterLayer>(layer);
  Changes& changes = changes_[place.target];
  for (std::size_t part = 0; part < place.layers.size(); ++part) {
    if (!std::holds_alternative<std::monostate>(layer.change)) {
      changes[place.layers[part] + ".weight"].push_back({shared, part});
    }
    if (layer.bias) changes[place.layers[part] + ".bias"].push_back({shared, part});
  }
}

void Lora::add_words(std::map<std::string, std::vector<HostTensor>>&& bundled, const LayerNames& names) {
  const std::int64_t clip_l = token_width(names, AdapterTarget::text_encoder);
  const std::int64_t clip_g = token_width(names, AdapterTarget::text_encoder_2);
  for (auto& [token, tensors] : bundled) {
    std::vector<std::string> in_file;
    for (HostTensor& tensor : tensors) {
      in_file.push_back(tensor.name);
      tensor.name = split_bundled(tensor.name)->tensor;
    }
    const auto source = TensorMap::make(name_, std::move(tensors));
    auto vectors = source.and_then([&](const auto& map) { return read_embedding(*map, clip_l, clip_g); });
    if (vectors) {
      applied_ += static_cast<int>(in_file.size());
      words_.push_back({token, *std::move(vectors)});
    } else {
      unmatched_.insert(unmatched_.end(), in_file.begin(), in_file.end());
    }
  }
  std::ranges::sort(unmatched_);
}

std::span<const TensorChange> Lora::changes(AdapterTarget target, std::string_view tensor) const {
  const auto of_target = changes_.find(target);
  if (of_target == changes_.end()) return {};
  const auto found = of_target->second.find(tensor);
  return found == of_target->second.end() ? std::span<const TensorChange>() : found->second;
}

std::vector<std::string> Lora::touched(AdapterTarget target) const {
  std::vector<std::string> tensors;
  if (const auto of_target = changes_.find(target); of_target != changes_.end()) {
    for (const auto& [tensor, changes] : of_target->second) tensors.push_back(tensor);
  }
  return tensors;
}

}  // namespace darkroom::engine
