#include "engine/weights/lora_layer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

namespace darkroom::engine {
namespace {

// Whether a file's shape says the same as the wanted one: trailing ones may be missing or too many (a 1×1 convolution
// is a matrix), and a convolution may lie flattened to a matrix.
bool fits(const Shape& found, const Shape& wanted) {
  if (found.elements() != wanted.elements()) return false;
  const auto dim = [](const Shape& shape, int i) { return i < shape.rank() ? shape[i] : 1; };
  if (dim(found, 0) != dim(wanted, 0)) return false;
  if (found.rank() == 2) return true;
  for (int i = 1; i < std::max(found.rank(), wanted.rank()); ++i) {
    if (dim(found, i) != dim(wanted, i)) return false;
  }
  return true;
}

template <class Integer>
float integer_at(const std::byte* data) {
  Integer value;
  std::memcpy(&value, data, sizeof value);
  return static_cast<float>(value);
}

// Takes a layer's tensors one by one, and remembers the first thing that is wrong.
class Parts {
 public:
  Parts(std::string_view name, AdapterTensors tensors) : name_(name), tensors_(std::move(tensors)) {}

  bool has(AdapterRole role) const { return tensors_.contains(role); }
  const Shape& shape_of(AdapterRole role) const { return tensors_.at(role).shape; }
  // 0 where there is none.
  std::int64_t dim(AdapterRole role, int axis) const {
    const auto found = tensors_.find(role);
    return found == tensors_.end() || axis >= found->second.shape.rank() ? 0 : found->second.shape[axis];
  }

  // A tensor that the form of the layer needs.
  HostTensor take(AdapterRole role, std::string_view missing) {
    const auto found = tensors_.find(role);
    if (found == tensors_.end()) {
      refuse("{}: {} is missing", name_, missing);
      return {};
    }
    HostTensor tensor = std::move(found->second);
    tensors_.erase(found);
    if (tensor.elements() == 0) refuse("{}: {} holds no numbers", tensor.name, tensor.shape.str());
    if (!is_floating(tensor.dtype)) {
      refuse("{}: expected a floating type, found {}", tensor.name, to_string(tensor.dtype));
    }
    return tensor;
  }
  HostTensor take(AdapterRole role, std::string_view missing, const Shape& wanted) {
    HostTensor tensor = take(role, missing);
    if (!error_ && !fits(tensor.shape, wanted)) {
      refuse("{}: expected {}, found {}", tensor.name, wanted.str(), tensor.shape.str());
    }
    return tensor;
  }

  // A single number, which some trainers save as an integer.
  std::optional<float> take_number(AdapterRole role) {
    const auto found = tensors_.find(role);
    if (found == tensors_.end()) return std::nullopt;
    const HostTensor tensor = std::move(found->second);
    tensors_.erase(found);
    if (tensor.elements() != 1) {
      refuse("{}: expected one number, found {}", tensor.name, tensor.shape.str());
      return std::nullopt;
    }
    float value = NAN;
    if (is_floating(tensor.dtype)) to_float(tensor.dtype, tensor.data, &value, 1);
    if (tensor.dtype == DType::i64) value = integer_at<std::int64_t>(tensor.data);
    if (tensor.dtype == DType::i32) value = integer_at<std::int32_t>(tensor.data);
    if (!std::isfinite(value))
      refuse("{}: expected a finite number, found {} {}", tensor.name, to_string(tensor.dtype), value);
    return value;
  }

  template <class... Args>
  void refuse(fmt::format_string<Args...> format, Args&&... args) {
    if (!error_) error_ = Error{ErrorCode::corrupt_data, fmt::format(format, std::forward<Args>(args)...)};
  }

  // What no form of layer has together.
  void refuse_rest() {
    if (!tensors_.empty())
      refuse("{} does not belong to the other tensors of {}", tensors_.begin()->second.name, name_);
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  std::string name_;
  AdapterTensors tensors_;
  std::optional<Error> error_;
};

Shape whole_shape(const AdaptedShape& shape) {
  if (shape.taps() > 1) return {shape.out, shape.in, shape.kernel_h, shape.kernel_w};
  if (shape.in == 1) return {shape.out};
  return {shape.out, shape.in};
}

// The right factor of a product: [rank, in, kh, kw].
Shape right_shape(std::int64_t rank, const AdaptedShape& shape) {
  return whole_shape({rank, shape.in, shape.kernel_h, shape.kernel_w});
}

Shape core_shape(std::int64_t left, std::int64_t right, const AdaptedShape& shape) {
  return {left, right, shape.kernel_h, shape.kernel_w};
}

struct FactorRoles {
  AdapterRole left;
  AdapterRole right;
  AdapterRole core;
  std::string_view left_name;
  std::string_view right_name;
  std::string_view core_name;
};

constexpr FactorRoles kLora{AdapterRole::up, AdapterRole::down, AdapterRole::mid, "lora_up", "lora_down", "lora_mid"};
constexpr FactorRoles kHada1{
    AdapterRole::hada_w1_a, AdapterRole::hada_w1_b, AdapterRole::hada_t1, "hada_w1_a", "hada_w1_b", "hada_t1"};
constexpr FactorRoles kHada2{
    AdapterRole::hada_w2_a, AdapterRole::hada_w2_b, AdapterRole::hada_t2, "hada_w2_a", "hada_w2_b", "hada_t2"};
constexpr FactorRoles kLokr2{
    AdapterRole::lokr_w2_a, AdapterRole::lokr_w2_b, AdapterRole::lokr_t2, "lokr_w2_a", "lokr_w2_b", "lokr_t2"};

enum class LeftLies : std::uint8_t { straight, transposed };

// A product that gives `shape`; LyCORIS stores the left factor transposed where there is a core, except in LoCon.
Factor take_factor(Parts& parts, const FactorRoles& roles, const AdaptedShape& shape, LeftLies with_core) {
  const std::int64_t rank = parts.dim(roles.right, 0);
  Factor factor;
  if (!parts.has(roles.core)) {
    factor.right = parts.take(roles.right, roles.right_name, right_shape(rank, shape));
    factor.left = parts.take(roles.left, roles.left_name, {shape.out, rank});
    return factor;
  }
  factor.left_lies_transposed = with_core == LeftLies::transposed;
  const std::int64_t left_rank = parts.dim(roles.core, 0);
  factor.core = parts.take(roles.core, roles.core_name, core_shape(left_rank, rank, shape));
  factor.right = parts.take(roles.right, roles.right_name, {rank, shape.in});
  const Shape left = factor.left_lies_transposed ? Shape{left_rank, shape.out} : Shape{shape.out, left_rank};
  factor.left = parts.take(roles.left, roles.left_name, left);
  return factor;
}

Hadamard take_hadamard(Parts& parts, const AdaptedShape& shape) {
  Factor first = take_factor(parts, kHada1, shape, LeftLies::transposed);
  return {.first = std::move(first), .second = take_factor(parts, kHada2, shape, LeftLies::transposed)};
}

Kronecker take_kronecker(Parts& parts, const AdaptedShape& shape) {
  const bool whole = parts.has(AdapterRole::lokr_w1);
  const std::int64_t rows = parts.dim(whole ? AdapterRole::lokr_w1 : AdapterRole::lokr_w1_a, 0);
  const std::int64_t columns = parts.dim(whole ? AdapterRole::lokr_w1 : AdapterRole::lokr_w1_b, 1);
  Kronecker kronecker;
  if (whole) {
    kronecker.first.left = parts.take(AdapterRole::lokr_w1, "lokr_w1", {rows, columns});
  } else {
    const std::int64_t rank = parts.dim(AdapterRole::lokr_w1_b, 0);
    kronecker.first.left = parts.take(AdapterRole::lokr_w1_a, "lokr_w1_a", {rows, rank});
    kronecker.first.right = parts.take(AdapterRole::lokr_w1_b, "lokr_w1_b", {rank, columns});
  }
  if (parts.error()) return kronecker;
  if (shape.out % rows != 0 || shape.in % columns != 0) {
    parts.refuse("{}: expected a shape whose numbers divide {}, found {}", kronecker.first.left.name,
                 Shape{shape.out, shape.in}.str(), Shape{rows, columns}.str());
    return kronecker;
  }
  const AdaptedShape rest{shape.out / rows, shape.in / columns, shape.kernel_h, shape.kernel_w};
  if (parts.has(AdapterRole::lokr_w2)) {
    kronecker.second.left = parts.take(AdapterRole::lokr_w2, "lokr_w2", whole_shape(rest));
  } else {
    kronecker.second = take_factor(parts, kLokr2, rest, LeftLies::transposed);
  }
  return kronecker;
}

// LyCORIS has had two orders of the factors; the older one is taken where both fit, as elsewhere.
Generalized take_generalized(Parts& parts, const AdaptedShape& shape) {
  using enum AdapterRole;
  for (const AdapterRole role : {glora_a1, glora_a2, glora_b1, glora_b2}) {
    if (!parts.has(role)) {
      parts.refuse("GLoRA takes a1, a2, b1 and b2: not all are there");
      return {};
    }
  }
  const std::int64_t old_rank = parts.dim(glora_a1, 0);
  const bool old_order = fits(parts.shape_of(glora_a1), {old_rank, shape.columns()}) &&
                         fits(parts.shape_of(glora_a2), {shape.columns(), old_rank}) &&
                         fits(parts.shape_of(glora_b1), right_shape(old_rank, shape)) &&
                         fits(parts.shape_of(glora_b2), {shape.out, old_rank});
  if (old_order) {
    return {.a_left = parts.take(glora_a2, "a2"),
            .a_right = parts.take(glora_a1, "a1"),
            .b_left = parts.take(glora_b2, "b2"),
            .b_right = parts.take(glora_b1, "b1"),
            .per_tap = false};
  }
  const std::int64_t rank = parts.dim(glora_a2, 0);
  const std::int64_t b_rank = parts.dim(glora_b2, 0);
  Generalized taken;
  taken.a_left = parts.take(glora_a1, "a1", {shape.in, rank});
  taken.a_right = parts.take(glora_a2, "a2", {rank, shape.in});
  taken.b_left = parts.take(glora_b1, "b1", {shape.out, b_rank});
  taken.b_right = parts.take(glora_b2, "b2", right_shape(b_rank, shape));
  return taken;
}

// alpha: limits how far rows are turned, by trainers' rule the more the more rows there are; none: not at all.
Rotation take_rotation(Parts& parts, const AdaptedShape& shape, float alpha) {
  const HostTensor blocks = parts.take(AdapterRole::oft_blocks, "oft_blocks");
  const Shape& found = blocks.shape;
  Rotation rotation{.blocks = blocks, .butterfly = found.rank() == 4};
  const auto from_last = [&](int i) { return found.rank() < i ? 0 : found[found.rank() - i]; };
  rotation.size = from_last(1);
  if (rotation.butterfly) rotation.stages = from_last(4);
  bool fits_rows = (found.rank() == 3 || found.rank() == 4) && found.elements() > 0 && from_last(2) == rotation.size &&
                   from_last(3) * rotation.size == shape.out;
  if (fits_rows && rotation.butterfly) {  // in stage i rows meet that lie 2^i·size/2 apart
    fits_rows =
        rotation.size % 2 == 0 && rotation.stages < 32 && shape.out % (rotation.size << (rotation.stages - 1)) == 0;
  }
  if (!fits_rows) {
    parts.refuse(
        "{}: expected [{}/n, n, n], or [stages, {}/n, n, n] with an even n whose product with 2^(stages - 1) divides "
        "{}, found {}",
        blocks.name, shape.out, shape.out, shape.out, found.str());
  }
  if (alpha > 0) rotation.limit = alpha * static_cast<float>(shape.out);
  if (parts.has(AdapterRole::rescale)) {
    rotation.rescale = parts.take(AdapterRole::rescale, "rescale", {shape.out});
  }
  return rotation;
}

// LyCORIS has a convolution's factors as [1, C, 1, 1] for either axis.
Scaling take_scaling(Parts& parts, const AdaptedShape& shape) {
  using enum AdapterRole;
  const bool input = parts.take_number(on_input).value_or(0) != 0;
  Scaling scaling{.factors = parts.take(ia3_weight, "weight"),
                  .axis = input ? ChannelAxis::input : ChannelAxis::output};
  const std::int64_t wanted = input ? shape.in : shape.out;
  if (!fits(scaling.factors.shape, {wanted}) && !fits(scaling.factors.shape, {1, wanted})) {
    parts.refuse("{}: expected {}, found {}", scaling.factors.name, Shape{wanted}.str(), scaling.factors.shape.str());
  }
  return scaling;
}

std::optional<Dora> take_dora(Parts& parts, const AdaptedShape& shape) {
  if (!parts.has(AdapterRole::dora_scale)) return std::nullopt;
  const HostTensor scale = parts.take(AdapterRole::dora_scale, "dora_scale");
  // A length for each row: [O], [O, 1] or [O, 1, 1, 1]; for each input channel: [1, I] or [1, I, 1, 1].
  if (fits(scale.shape, {shape.out, 1})) return Dora{scale, ChannelAxis::output};
  if (fits(scale.shape, {1, shape.in})) return Dora{scale, ChannelAxis::input};
  parts.refuse("{}: expected {} or {}, found {}", scale.name, Shape{shape.out, 1}.str(), Shape{1, shape.in}.str(),
               scale.shape.str());
  return std::nullopt;
}

}  // namespace

Result<AdapterLayer> make_adapter_layer(std::string name, AdapterTensors tensors, const AdaptedShape& shape,
                                        std::optional<float> default_scale) {
  using enum AdapterRole;
  Parts parts(name, std::move(tensors));
  AdapterLayer layer{.name = std::move(name), .shape = shape};
  const std::optional<float> own_alpha = parts.take_number(alpha);
  layer.dora = take_dora(parts, shape);

  std::int64_t rank = 0;  // 0: alpha does not count
  if (parts.has(up) || parts.has(down)) {
    rank = parts.dim(down, 0);
    layer.change = take_factor(parts, kLora, shape, LeftLies::straight);
  } else if (parts.has(hada_w1_a) || parts.has(hada_w1_b)) {
    rank = parts.dim(hada_w1_b, 0);
    layer.change = take_hadamard(parts, shape);
  } else if (parts.has(lokr_w1) || parts.has(lokr_w1_a)) {
    // Where neither factor is a product there is no rank, and alpha is not looked at.
    rank = parts.dim(parts.has(lokr_w2_b) ? lokr_w2_b : lokr_w1_b, 0);
    layer.change = take_kronecker(parts, shape);
  } else if (parts.has(glora_a1)) {
    Generalized taken = take_generalized(parts, shape);
    rank = taken.a_right.shape.rank() > 0 ? taken.a_right.shape[0] : 0;
    layer.change = std::move(taken);
  } else if (parts.has(oft_blocks)) {
    layer.change = take_rotation(parts, shape, own_alpha.value_or(0.0F));
  } else if (parts.has(ia3_weight)) {
    layer.change = take_scaling(parts, shape);
  } else if (parts.has(difference)) {
    layer.change = Factor{.left = parts.take(difference, "diff", whole_shape(shape))};
  }
  if (!own_alpha) {
    layer.scale = default_scale.value_or(1.0F);
  } else if (rank > 0) {
    layer.scale = *own_alpha / static_cast<float>(rank);
  }

  if (parts.has(bias_difference)) {
    layer.bias = parts.take(bias_difference, "diff_b", {shape.out});
  } else if (parts.has(up_bias)) {
    layer.bias = parts.take(up_bias, "lora_B.bias", {shape.out});
    layer.bias_scale = layer.scale;
  }
  if (layer.dora && std::holds_alternative<std::monostate>(layer.change)) {
    parts.refuse("{}: dora_scale without a change", layer.name);
  }
  parts.refuse_rest();
  if (parts.error()) return tl::unexpected(*parts.error());
  return layer;
}

}  // namespace darkroom::engine
