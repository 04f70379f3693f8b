#include "spec/generation_codec.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "base/json_writer.h"
#include "base/random.h"

namespace darkroom {
namespace {

using nlohmann::json;

// The limits of fields whose limits nobody configures.
constexpr int kMaxSourceSide = 32'768;  // pixels, of the sizes that SDXL is told
constexpr float kMaxUpscale = 8.0F;
constexpr int kMaxMaskBlur = 256;         // pixels
constexpr std::size_t kNameBytes = 4096;  // PATH_MAX
constexpr std::size_t kWordBytes = 200;

// Preprocessors that need no network of their own.
constexpr std::string_view kPreprocessors[] = {"canny", "scribble", "lineart", "invert", "blur", "tile"};

bool is_preprocessor(std::string_view name) {
  return std::find(std::begin(kPreprocessors), std::end(kPreprocessors), name) != std::end(kPreprocessors);
}

// Where a refiner goes on unless it is said: what SDXL's authors recommend.
constexpr float kRefinerSwitch = 0.8F;

constexpr std::string_view kDataUri = "data:";
constexpr std::string_view kDataUriBase64 = ";base64,";

// What decoding needs beside the struct that it fills.
struct Context {
  const Limits& limits;
  std::vector<std::string>* warnings;  // reading only
};

// --- Values whose wire form is not the field's type: a pair of overloads each. ---

// A path, or a data URI with the encoded bytes.
void image(JsonReader& in, std::string_view key, ImageSource& out, const Limits& limits) {
  std::string text;
  if (!in.field(key, text, not_empty())) return;
  if (!text.starts_with(kDataUri)) {
    if (text.size() > kNameBytes) in.complain(key, "is neither a path nor a data: URI");
    out.path = std::move(text);
    return;
  }
  const std::size_t comma = text.find(kDataUriBase64);
  if (comma == std::string::npos) return in.complain(key, "is a data: URI without ;base64,");
  Result<std::string> bytes = decode_base64(std::string_view(text).substr(comma + kDataUriBase64.size()));
  if (!bytes) return in.complain(key, bytes.error().message);
  if (bytes->size() > limits.picture_bytes) {
    return in.complain(key, fmt::format("has {} bytes, at most {} are allowed", bytes->size(), limits.picture_bytes));
  }
  out.bytes = std::move(*bytes);
}

void image(JsonWriter& out, std::string_view key, const ImageSource& image, const Limits&) {
  out.field(key, image.bytes.empty()
                     ? image.path
                     : fmt::format("data:application/octet-stream{}{}", kDataUriBase64, encode_base64(image.bytes)));
}

void optional_image(JsonReader& in, std::string_view key, std::optional<ImageSource>& out, const Limits& limits) {
  ImageSource source;
  image(in, key, source, limits);
  if (!source.path.empty() || !source.bytes.empty()) out = std::move(source);
}

void optional_image(JsonWriter& out, std::string_view key, const std::optional<ImageSource>& source,
                    const Limits& limits) {
  if (source) image(out, key, *source, limits);
}

// A decoder's 8-bit errors are seen: int8 is for the UNet.
std::string fits_vae(Precision value) {
  return value == Precision::int8 ? R"(is "int8", must be auto, float32 or bfloat16)" : "";
}

template <class... Checks>
void precision(JsonReader& in, std::string_view key, Precision& out, const Context& context, const Checks&... checks) {
  const json* value = in.take(key);
  if (value != nullptr && *value == "float16") {
    out = Precision::bfloat16;
    context.warnings->push_back(fmt::format("precision.{}: this device has no float16; computing in bfloat16", key));
    return;
  }
  in.field(key, out, checks...);
}

template <class... Checks>
void precision(JsonWriter& out, std::string_view key, Precision value, const Context&, const Checks&...) {
  out.field(key, value);
}

// −1 asks for a random one.
void seed(JsonReader& in, std::uint64_t& out) {
  const json* value = in.take("seed");
  // Asked for its sign first: to the library, 2^64 - 1 equals -1.
  if (value != nullptr && !value->is_number_unsigned() && *value == -1) {
    out = random_u64();
  } else {
    in.field("seed", out);
  }
}

void seed(JsonWriter& out, std::uint64_t value) { out.field("seed", value); }

// Diffusers' config keys, whatever they hold.
void scheduler_options(JsonReader& in, std::vector<SchedulerOption>& out) {
  in.object("scheduler_options", [&](JsonReader& options) {
    for (const auto& [key, value] : options.take_rest()) out.emplace_back(key, value->dump());
  });
}

void scheduler_options(JsonWriter& out, const std::vector<SchedulerOption>& options) {
  out.object("scheduler_options", [&](JsonWriter& inner) {
    for (const auto& [key, value] : options) inner.field(key, json::parse(value));
  });
}

// The name follows from the ControlNet's type where it is not given.
void settle_preprocessor(JsonReader& in, bool enabled, ControlNetUse& use, const Context& context) {
  if (!enabled) {
    use.preprocess = {};
    return;
  }
  if (!use.preprocess.name.empty()) {
    if (is_preprocessor(use.preprocess.name)) return;
    const std::vector<std::string> names(std::begin(kPreprocessors), std::end(kPreprocessors));
    return in.complain("name", fmt::format("is \"{}\", must be {}", use.preprocess.name, join_with_or(names)));
  }
  if (is_preprocessor(use.type)) {
    use.preprocess.name = use.type;
  } else {
    context.warnings->push_back(fmt::format(
        "controlnet: no preprocessor for \"{}\" is built in; the control picture is used as it is", use.type));
    use.preprocess = {};
  }
}

// --- The fields, once for both directions. ---

template <class Io>
void size_fields(Io& io, auto& size) {
  io.required("width", size.width, between(1, kMaxSourceSide));
  io.required("height", size.height, between(1, kMaxSourceSide));
}

template <class Io>
void point_fields(Io& io, auto& point) {
  io.required("x", point.x, between(0, kMaxSourceSide));
  io.required("y", point.y, between(0, kMaxSourceSide));
}

template <class Io>
bool controlnet_fields(Io& io, auto& use, const Context& context) {
  bool enabled = true;
  io.field("enabled", enabled);
  io.field("model", use.model, max_bytes(kNameBytes));
  io.field("type", use.type, max_bytes(kWordBytes));
  image(io, "control_image", use.image, context.limits);
  io.field("conditioning_scale", use.scale, between(0.0F, 2.0F));
  io.field("start", use.start, between(0.0F, 1.0F));
  io.field("end", use.end, between(0.0F, 1.0F));
  io.object("preprocessor", [&](Io& inner) {
    bool preprocess = Io::kReading || !use.preprocess.name.empty();
    inner.field("enabled", preprocess);
    inner.field("name", use.preprocess.name, max_bytes(kWordBytes));
    inner.field("arguments", use.preprocess.arguments);
    inner.field("resolution", use.preprocess.resolution, between(0, context.limits.max_side));
    if constexpr (Io::kReading) settle_preprocessor(inner, preprocess, use, context);
  });
  if constexpr (Io::kReading) {
    if (!enabled) return false;
    if (use.model.empty() && use.type.empty()) io.complain("model", "is required where there is no type");
    if (use.image.path.empty() && use.image.bytes.empty()) io.complain("control_image", "is required");
    if (use.start > use.end) io.complain("start", fmt::format("is {}, after the end {}", use.start, use.end));
  }
  return true;
}

template <class Io>
void micro_conditioning_fields(Io& io, auto& micro) {
  const auto size = [](Io& inner, auto& value) { size_fields(inner, value); };
  const auto point = [](Io& inner, auto& value) { point_fields(inner, value); };
  io.optional("original_size", micro.original_size, size);
  io.object("crop_top_left", [&](Io& inner) { point_fields(inner, micro.crop_top_left); });
  io.optional("target_size", micro.target_size, size);
  io.optional("negative_original_size", micro.negative_original_size, size);
  io.optional("negative_crop_top_left", micro.negative_crop_top_left, point);
  io.optional("negative_target_size", micro.negative_target_size, size);
  io.field("aesthetic_score", micro.aesthetic_score, between(0.0F, 10.0F));
  io.field("negative_aesthetic_score", micro.negative_aesthetic_score, between(0.0F, 10.0F));
}

template <class Io>
void output_fields(Io& io, auto& spec, int max_steps) {
  auto& output = spec.output;
  io.field("format", output.format);
  io.field("quality", output.quality, between(1, 100));
  io.field("save_path", output.path, max_bytes(kNameBytes));
  io.field("embed_parameters", output.embed_parameters);
  io.field("preview_every", output.preview_every, between(0, max_steps));
  io.field("save_control_maps", output.save_control_maps);
  bool upscale = Io::kReading || spec.upscale.has_value();
  io.optional("upscale", spec.upscale, [&](Io& inner, auto& use) {
    inner.field("enabled", upscale);
    inner.field("factor", use.factor, between(1.0F, kMaxUpscale));
    inner.field("method", use.model, not_empty(), max_bytes(kNameBytes));
  });
  if constexpr (Io::kReading) {
    if (!upscale) spec.upscale.reset();
    if (spec.upscale && spec.upscale->model.empty()) io.complain_at("/upscale/method", "is required");
    std::string extension = to_lower(std::filesystem::path(output.path).extension().string());
    if (extension.empty()) return;
    const std::optional<ImageFormat> named = value_of<ImageFormat>(extension.erase(0, 1));
    if (!named) {
      io.complain("save_path", fmt::format("ends in .{}, must end in .png, .jpg, .jpeg, .webp or /", extension));
    } else if (!io.has("format")) {
      output.format = *named;
    } else if (output.format != *named) {
      io.complain("save_path", fmt::format("ends in .{}, but the format is {}", extension, name_of(output.format)));
    }
  }
}

template <class Io>
void generation_fields(Io& io, auto& spec, auto& job, const Context& context) {
  const Limits& limits = context.limits;
  const auto name = max_bytes(kNameBytes);
  const auto words = max_bytes(limits.prompt_bytes);

  bool may_be_empty = !Io::kReading;
  if constexpr (Io::kReading) may_be_empty = io.has("init_image");
  if (may_be_empty) {
    io.required("prompt", spec.prompt, words);
  } else {
    io.required("prompt", spec.prompt, not_empty(), words);
  }
  io.field("negative_prompt", spec.negative_prompt, words);
  io.field("prompt_2", spec.prompt_2, words);
  io.field("negative_prompt_2", spec.negative_prompt_2, words);
  io.field("prompt_syntax", spec.prompt_syntax);
  io.field("clip_skip", spec.clip_skip, between(0, 11));

  std::string refiner = spec.refiner ? spec.refiner->model : "";
  io.object("models", [&](Io& in) {
    if (Io::kReading || !spec.model.empty()) in.field("base", spec.model, not_empty(), name);
    in.field("refiner", refiner, name);
    in.field("vae", spec.vae, name);
  });
  io.optional("refiner", spec.refiner, [](Io& in, auto& use) {
    in.field("switch_at", use.switch_at, between(0.0F, 1.0F));
    in.field("strength", use.strength, between(0.0F, 1.0F));
  });
  bool lora = Io::kReading || !spec.loras.empty();
  io.object("lora", [&](Io& in) {
    in.field("enabled", lora);
    in.list("models", spec.loras, static_cast<std::size_t>(limits.max_loras), [&](Io& one, auto& use) {
      const auto weight = between(-limits.max_lora_weight, limits.max_lora_weight);
      one.required("name", use.model, not_empty(), name);
      one.field("weight", use.unet_weight, weight);
      if constexpr (Io::kReading) use.text_encoder_weight = use.unet_weight;
      one.field("text_encoder_weight", use.text_encoder_weight, weight);
      return true;
    });
  });
  io.one_or_more("controlnet", spec.controlnets, static_cast<std::size_t>(limits.max_controlnets),
                 [&](Io& one, auto& use) { return controlnet_fields(one, use, context); });
  io.field("guess_mode", spec.guess_mode);
  io.list("embeddings", spec.embeddings, static_cast<std::size_t>(limits.max_embeddings), [&](Io& one, auto& use) {
    one.required("token", use.token, not_empty(), max_bytes(kWordBytes));
    one.required("model", use.model, not_empty(), name);
    return true;
  });

  io.object("dimensions", [&](Io& in) {
    for (auto [key, side] : {std::pair{"width", &spec.width}, {"height", &spec.height}}) {
      if (!Io::kReading && *side == 0) continue;
      in.field(key, *side, between(limits.min_side, limits.max_side), multiple_of(limits.side_multiple));
    }
  });
  io.object("batch", [&](Io& in) {
    in.field("size", spec.batch_size, between(1, limits.max_batch));
    in.field("parallel", spec.batch_parallel);
  });
  io.object("micro_conditioning", [&](Io& in) { micro_conditioning_fields(in, spec.micro_conditioning); });

  io.object("hyperparameters", [&](Io& in) {
    in.field("num_inference_steps", spec.steps, between(1, limits.max_steps));
    in.field("guidance_scale", spec.guidance_scale, between(limits.min_guidance, limits.max_guidance));
    seed(in, spec.seed);
    in.field("strength", spec.strength, between(0.0F, 1.0F));
    in.field("guidance_rescale", spec.guidance_rescale, between(0.0F, 1.0F));
    in.field("pag_scale", spec.pag_scale, between(0.0F, limits.max_guidance));
  });
  io.field("scheduler", spec.scheduler.name, max_bytes(kWordBytes));
  scheduler_options(io, spec.scheduler.options);
  io.optional("variation", spec.variation, [](Io& in, auto& variation) {
    seed(in, variation.seed);
    in.field("strength", variation.strength, between(0.0F, 1.0F));
  });
  io.optional("freeu", spec.freeu, [](Io& in, auto& freeu) {
    for (auto [key, value] : {std::pair{"s1", &freeu.s1}, {"s2", &freeu.s2}, {"b1", &freeu.b1}, {"b2", &freeu.b2}}) {
      in.field(key, *value, between(0.0F, 4.0F));
    }
  });
  io.object("tiling", [&](Io& in) {
    in.field("x", spec.tile_x);
    in.field("y", spec.tile_y);
  });

  optional_image(io, "init_image", spec.init_image, limits);
  optional_image(io, "mask_image", spec.mask_image, limits);
  io.object("mask", [&](Io& in) {
    in.field("part", spec.mask.part);
    in.field("invert", spec.mask.invert);
    in.field("blur", spec.mask.blur, between(0, kMaxMaskBlur));
    in.field("fill", spec.mask.fill);
    in.field("margin", spec.mask.margin, between(0, limits.max_side));
  });
  io.field("resize_mode", spec.resize_mode);
  io.object("extend", [&](Io& in) {
    const auto pixels = between(0, limits.max_side);
    in.field("left", spec.extend.left, pixels);
    in.field("top", spec.extend.top, pixels);
    in.field("right", spec.extend.right, pixels);
    in.field("bottom", spec.extend.bottom, pixels);
  });
  io.optional("hires", spec.hires, [&](Io& in, auto& hires) {
    in.field("factor", hires.factor, between(1.0F, kMaxUpscale));
    in.field("steps", hires.steps, between(0, limits.max_steps));
    in.field("strength", hires.strength, between(0.0F, 1.0F));
    in.field("upscaler", hires.upscaler, not_empty(), name);
  });

  io.object("precision", [&](Io& in) {
    precision(in, "dtype", spec.precision, context);
    precision(in, "vae_dtype", spec.vae_precision, context, fits_vae);
    in.field("vae_tile", spec.vae_tile, between(0, limits.max_side), zero_or_at_least(kMinVaeTile));
    // What these save is saved in every case: weights lie in main memory, attention is computed in tiles, and
    // pictures are decoded one at a time.
    if constexpr (Io::kReading) {
      for (const char* key : {"cpu_offload", "attention_slicing", "vae_slicing"}) {
        bool asked = false;
        in.field(key, asked);
      }
    }
  });
  io.object("output", [&](Io& in) { output_fields(in, spec, limits.max_steps); });
  io.object("metadata", [&](Io& in) {
    in.field("priority", job.priority);
    in.field("timeout", job.timeout, between(1, limits.max_timeout));
    in.field("tags", job.tags);
    if constexpr (Io::kReading) {
      std::string unused;  // the envelope's counts
      in.field("request_id", unused);
    }
  });

  if constexpr (Io::kReading) {
    if (!refiner.empty()) {
      if (!spec.refiner) spec.refiner.emplace();
      spec.refiner->model = refiner;
      if (!spec.refiner->strength && !spec.refiner->switch_at) spec.refiner->switch_at = kRefinerSwitch;
    } else if (spec.refiner) {
      io.complain("refiner", "needs models.refiner");
    }
    if (!lora) spec.loras.clear();
  }
}

// The specification's old flat form; where both are given the flat one counts, as it says.
void legacy_fields(JsonReader& in, GenerationSpec& spec, const Limits& limits) {
  std::string model;
  in.field("model_name", model, not_empty(), max_bytes(kNameBytes));
  if (spec.model.empty()) spec.model = model;
  in.field("num_inference_steps", spec.steps, between(1, limits.max_steps));
  in.field("guidance_scale", spec.guidance_scale, between(limits.min_guidance, limits.max_guidance));
  seed(in, spec.seed);
  in.field("strength", spec.strength, between(0.0F, 1.0F));
  in.field("width", spec.width, between(limits.min_side, limits.max_side), multiple_of(limits.side_multiple));
  in.field("height", spec.height, between(limits.min_side, limits.max_side), multiple_of(limits.side_multiple));
}

// What no single field shows.
void check_together(JsonReader& in, const GenerationSpec& spec) {
  if (spec.model.empty() && !only_enlarges(spec) && !only_preprocesses(spec))
    in.complain_at("/models/base", "is required");
  if (spec.refiner && spec.refiner->switch_at && spec.refiner->strength) {
    in.complain("refiner", "has both switch_at and strength; one of them says how the refiner is used");
  }
  if (spec.mask_image && !spec.init_image) in.complain("mask_image", "needs an init_image");
  if (spec.mask != MaskUse{} && !spec.mask_image) in.complain("mask", "needs a mask_image");
  if (spec.extend.any() && !spec.init_image) in.complain("extend", "needs an init_image");
}

}  // namespace

tl::expected<GenerationRequest, std::vector<Complaint>> decode_generation(const json& data, const Limits& limits) {
  GenerationRequest request;
  request.spec.seed = random_u64();
  const Size preset{.width = request.spec.width, .height = request.spec.height};
  request.spec.width = request.spec.height = 0;  // not given
  std::vector<Complaint> complaints = read_json(data, [&](JsonReader& in) {
    generation_fields(in, request.spec, request.job, {limits, &request.warnings});
    legacy_fields(in, request.spec, limits);
    if (!request.spec.init_image) {
      if (request.spec.width == 0) request.spec.width = preset.width;
      if (request.spec.height == 0) request.spec.height = preset.height;
    }
    check_together(in, request.spec);
    in.take("worker_type");  // the protocol's
  });
  if (!complaints.empty()) return tl::unexpected(std::move(complaints));
  return request;
}

json encode_generation(const GenerationSpec& spec, const JobOptions& job) {
  const Limits unused;
  return write_json([&](JsonWriter& out) { generation_fields(out, spec, job, {unused, nullptr}); });
}

}  // namespace darkroom
