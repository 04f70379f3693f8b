#include "engine/weights/lora.h"

#include <algorithm>
#include <utility>

#include "engine/weights/lora_family.h"
#include "engine/weights/lora_metadata.h"
#include "engine/weights/weight_file.h"

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

std::optional<float> default_alpha(const AdapterMetadata& metadata, const std::string& layer,
                                   const AdapterTensors& tensors) {
  const auto down = tensors.find(AdapterRole::down);
  if (down == tensors.end() || down->second.shape.rank() == 0) return std::nullopt;
  return metadata.alpha(layer, down->second.shape[0]);
}

}  // namespace

Result<std::shared_ptr<const Lora>> Lora::open(const std::filesystem::path& path, const LayerNames& names) {
  auto file = open_weight_file(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  return bind(*file->weights, file->metadata, names);
}

Result<std::shared_ptr<const Lora>> Lora::bind(const WeightSource& file, const TensorMetadata& metadata,
                                               const LayerNames& names) {
  if (const Family family = family_of_lora(file); family != Family::unknown && family != Family::sdxl) {
    return fail(ErrorCode::unsupported, "{} is a LoRA for {}, the model is {}", file.describe(), to_string(family),
                to_string(Family::sdxl));
  }
  const auto peft = AdapterMetadata::parse(metadata, file.describe());
  if (!peft) return tl::unexpected(peft.error());

  // 1. Each tensor of the file: a part of a layer, or without a place.
  auto lora = std::make_shared<Lora>();
  lora->name_ = file.describe();
  std::map<std::string, Found> layers;
  for (const std::string& name : file.names()) {
    const auto key = split_adapter_key(name);
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
  if (layers.empty()) {
    return fail(ErrorCode::unsupported, "{}: none of its {} tensors belongs to a layer of the model{}", file.describe(),
                lora->total(),
                lora->unmatched_.empty() ? "" : fmt::format("; the first is {}", lora->unmatched_.front()));
  }

  // 2. Each layer, its shapes held against the base.
  for (auto& [name, found] : layers) {
    const auto shape = adapted_shape(names.base(found.place.target), found.place);
    if (!shape) return tl::unexpected(shape.error());
    const auto alpha = default_alpha(*peft, name, found.tensors);
    auto layer = make_adapter_layer(name, std::move(found.tensors), *shape, alpha);
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
