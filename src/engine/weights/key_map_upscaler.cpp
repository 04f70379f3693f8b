#include "engine/weights/key_map_upscaler.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace darkroom::engine {
namespace {

using Mapped = Result<MappedPart<UpscalerConfig>>;
using Entries = KeyMappedSource::Entries;

constexpr int kMaxBlocks = 256;  // more is no network of these kinds
constexpr int kMaxDoublings = 3;
constexpr int kMaxScale = 8;
constexpr std::int64_t kPictureChannels = 3;

enum class Layout : std::uint8_t {
  basicsr,   // RRDBNet: body.0.rdb1.conv1
  trunk,     // RRDBNet: RRDB_trunk.0.RDB1.conv1, as ESRGAN's repository has it
  numbered,  // RRDBNet: model.1.sub.0.RDB1.conv1.0, as it was before
  compact,   // SRVGGNetCompact: body.0
};

// A name that only this layout has.
struct Marker {
  Layout layout;
  std::string_view name;
};
constexpr std::array kMarkers{
    Marker{Layout::basicsr, "body.0.rdb1.conv1.weight"}, Marker{Layout::trunk, "RRDB_trunk.0.RDB1.conv1.weight"},
    Marker{Layout::numbered, "model.1.sub.0.RDB1.conv1.0.weight"}, Marker{Layout::compact, "body.0.weight"}};

// Parts of names that only one kind of upscaler has, of those that are not implemented.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kOthers{
    {{".conv1x1.", "an ESRGAN+"},
     {"residual_group.overlap_attn.", "a HAT"},
     {"residual_group.blocks.0.attn.logit_scale", "a Swin2SR"},
     {"residual_group.blocks.", "a SwinIR"},
     {"before_RG.", "a DAT"},
     {"block_1.c1_r.", "a SPAN"},
     {"residual_layer.0.residual_layer.", "an OmniSR"},
     {"conv_first.", "an unknown"}}};

std::optional<std::string_view> other_upscaler(const std::vector<std::string>& names) {
  for (const auto& [part, what] : kOthers) {
    const auto has = [wanted = part](const std::string& name) { return name.find(wanted) != std::string::npos; };
    if (std::ranges::any_of(names, has)) return what;
  }
  return std::nullopt;
}

struct Found {
  Layout layout;
  std::string prefix;  // of every name, with its dot
};

// Training files hold the weights and their running mean; the mean is what one wants.
std::optional<Found> find_layout(const WeightSource& source, const std::vector<std::string>& names) {
  std::optional<Found> best;
  for (const std::string& name : names) {
    for (const auto& [layout, marker] : kMarkers) {
      if (!name.ends_with(marker)) continue;
      const std::string prefix = name.substr(0, name.size() - marker.size());
      if (!prefix.empty() && !prefix.ends_with('.')) continue;
      if (layout == Layout::compact && !source.contains(prefix + "body.1.weight")) continue;
      if (!best || prefix.find("ema") != std::string::npos) best = Found{layout, prefix};
    }
  }
  return best;
}

// The layers under one prefix of a source, and the mapping as it grows.
class Layers {
 public:
  Layers(const WeightSource& source, std::string prefix) : source_(source), prefix_(std::move(prefix)) {}

  bool has(std::string_view layer) const { return source_.contains(full_name(layer, "weight")); }

  // The shape of a 3×3 convolution's weight; where it is none, an empty one, and the error is kept.
  Shape shape(std::string_view layer) {
    const std::string name = full_name(layer, "weight");
    const auto info = source_.info(name);
    if (!info) {
      refuse(ErrorCode::corrupt_data, fmt::format("no tensor '{}'", name));
    } else if (info->shape.rank() != 4 || info->shape.elements() == 0) {
      refuse(ErrorCode::corrupt_data, fmt::format("tensor '{}' {} is no convolution's", name, info->shape.str()));
    } else {
      return info->shape;
    }
    return {0, 0, 0, 0};
  }

  void map(const std::string& target, std::string_view layer, std::string_view tensor) {
    entries_[fmt::format("{}.{}", target, tensor)] = {.source = full_name(layer, tensor)};
  }
  void map_convolution(const std::string& target, std::string_view layer) {
    map(target, layer, "weight");
    map(target, layer, "bias");
  }

  void refuse(ErrorCode code, const std::string& what) {
    if (!error_) error_ = Error{code, fmt::format("{}: {}", source_.describe(), what)};
  }

  // Every tensor must have a place in the network: one that is left over would have changed the picture.
  Mapped finish(const UpscalerConfig& config, std::string_view network, const std::vector<std::string>& names) {
    std::vector<std::string_view> taken;
    for (const auto& [target, entry] : entries_) taken.emplace_back(entry.source);
    std::ranges::sort(taken);
    for (const std::string& name : names) {
      if (name.starts_with(prefix_) && !std::ranges::binary_search(taken, std::string_view(name))) {
        refuse(ErrorCode::unsupported, fmt::format("tensor '{}' has no place in {}", name, network));
      }
    }
    if (error_) return tl::unexpected(*std::move(error_));
    return MappedPart<UpscalerConfig>{.config = config, .entries = std::move(entries_)};
  }

 private:
  std::string full_name(std::string_view layer, std::string_view tensor) const {
    return fmt::format("{}{}.{}", prefix_, layer, tensor);
  }

  const WeightSource& source_;
  std::string prefix_;
  Entries entries_;
  std::optional<Error> error_;
};

// ---- RRDBNet ----

std::string dense_name(Layout layout, std::int64_t block, int rdb, int conv) {
  switch (layout) {
    case Layout::trunk:
      return fmt::format("RRDB_trunk.{}.RDB{}.conv{}", block, rdb, conv);
    case Layout::numbered:
      return fmt::format("model.1.sub.{}.RDB{}.conv{}.0", block, rdb, conv);
    default:
      return fmt::format("body.{}.rdb{}.conv{}", block, rdb, conv);
  }
}

// The convolutions outside of the blocks.
struct OuterNames {
  std::string first, body, hr, last;
  std::vector<std::string> ups;
};

// compat(ESRGAN): one doubling and one tripling have the same numbers and shapes; x3 networks, which nobody shares,
// are taken for x2.
OuterNames outer_names(Layout layout, const Layers& layers, std::int64_t blocks) {
  OuterNames names;
  const auto up = [&](int i) {
    switch (layout) {
      case Layout::trunk:
        return fmt::format("upconv{}", i + 1);
      case Layout::numbered:
        return fmt::format("model.{}", 3 + 3 * i);  // behind it its activation and the next one's doubling
      default:
        return fmt::format("conv_up{}", i + 1);
    }
  };
  for (int i = 0; i < kMaxDoublings && layers.has(up(i)); ++i) names.ups.push_back(up(i));
  if (layout == Layout::numbered) {
    const std::size_t behind = 2 + 3 * names.ups.size();
    names.first = "model.0";
    names.body = fmt::format("model.1.sub.{}", blocks);
    names.hr = fmt::format("model.{}", behind);
    names.last = fmt::format("model.{}", behind + 2);
  } else {
    const bool trunk = layout == Layout::trunk;
    names.first = "conv_first";
    names.body = trunk ? "trunk_conv" : "conv_body";
    names.hr = trunk ? "HRconv" : "conv_hr";
    names.last = "conv_last";
  }
  return names;
}

// The side of the squares of pixels that make `channels` channels; 0: none does.
int unshuffle_of(std::int64_t channels) {
  for (const int side : {1, 2, 4}) {
    if (channels == kPictureChannels * side * side) return side;
  }
  return 0;
}

Mapped map_rrdbnet(Layers layers, Layout layout, const std::vector<std::string>& names) {
  RrdbnetConfig config{.num_block = 0};
  while (config.num_block < kMaxBlocks && layers.has(dense_name(layout, config.num_block, 1, 1))) ++config.num_block;
  const OuterNames outer = outer_names(layout, layers, config.num_block);
  const Shape first = layers.shape(outer.first);
  const Shape last = layers.shape(outer.last);
  config.num_feat = first[0];
  config.num_grow_ch = layers.shape(dense_name(layout, 0, 1, 1))[0];
  config.doublings = static_cast<int>(outer.ups.size());
  config.unshuffle = std::max(1, unshuffle_of(first[1]));
  if (unshuffle_of(first[1]) == 0 || last[0] != kPictureChannels) {
    layers.refuse(
        ErrorCode::unsupported,
        fmt::format("takes {} channels and gives {}; RRDBNets take 3, 12 or 48 and give 3", first[1], last[0]));
  } else if ((1 << config.doublings) % config.unshuffle != 0) {
    layers.refuse(ErrorCode::unsupported, fmt::format("makes pictures smaller: {} doublings of 1/{} of the size",
                                                      config.doublings, config.unshuffle));
  }

  layers.map_convolution("conv_first", outer.first);
  layers.map_convolution("conv_body", outer.body);
  layers.map_convolution("conv_hr", outer.hr);
  layers.map_convolution("conv_last", outer.last);
  for (std::size_t i = 0; i < outer.ups.size(); ++i) {
    layers.map_convolution(fmt::format("conv_up{}", i + 1), outer.ups[i]);
  }
  for (std::int64_t block = 0; block < config.num_block; ++block) {
    for (int rdb = 1; rdb <= 3; ++rdb) {
      for (int conv = 1; conv <= 5; ++conv) {
        layers.map_convolution(dense_name(Layout::basicsr, block, rdb, conv), dense_name(layout, block, rdb, conv));
      }
    }
  }
  return layers.finish(config, "an RRDBNet", names);
}

// ---- SRVGGNetCompact ----

// body.0 is a convolution and body.1 the slopes behind it, and so on; the last is a convolution.
Mapped map_compact(Layers layers, const std::vector<std::string>& names) {
  const auto body = [](std::int64_t i) { return fmt::format("body.{}", i); };
  CompactConfig config{.num_conv = -1};
  while (config.num_conv < kMaxBlocks && layers.has(body(2 * config.num_conv + 3))) ++config.num_conv;
  const std::int64_t last = 2 * config.num_conv + 2;
  const Shape first = layers.shape(body(0));
  config.num_feat = first[0];
  const std::int64_t shuffled = layers.shape(body(last))[0];
  for (config.upscale = 1; config.upscale < kMaxScale; ++config.upscale) {
    if (shuffled == kPictureChannels * config.upscale * config.upscale) break;
  }
  if (first[1] != kPictureChannels || shuffled != kPictureChannels * config.upscale * config.upscale) {
    layers.refuse(ErrorCode::unsupported,
                  fmt::format("takes {} channels and ends in {}; an SRVGGNetCompact takes 3 and ends in 3 times a "
                              "square, at most {}",
                              first[1], shuffled, kPictureChannels * kMaxScale * kMaxScale));
  }
  for (std::int64_t i = 0; i <= last; i += 2) {
    layers.map_convolution(body(i), body(i));
    if (i < last) layers.map(body(i + 1), body(i + 1), "weight");
  }
  return layers.finish(config, "an SRVGGNetCompact", names);
}

}  // namespace

bool is_upscaler(const WeightSource& source) {
  const std::vector<std::string> names = source.names();
  return find_layout(source, names).has_value() || other_upscaler(names).has_value();
}

Mapped map_upscaler(const WeightSource& source) {
  const std::vector<std::string> names = source.names();
  const std::optional<Found> found = find_layout(source, names);
  if (!found) {
    return fail(ErrorCode::unsupported,
                "{} is {} network; Darkroom runs RRDBNet (ESRGAN, Real-ESRGAN) and SRVGGNetCompact", source.describe(),
                other_upscaler(names).value_or("no upscaler's"));
  }
  Layers layers(source, found->prefix);
  if (found->layout == Layout::compact) return map_compact(std::move(layers), names);
  return map_rrdbnet(std::move(layers), found->layout, names);
}

}  // namespace darkroom::engine
