#include "service/api/openai_request.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/random.h"
#include "base/text.h"
#include "service/api/batches.h"
#include "service/api/picture_input.h"
#include "service/api/tolerant_reader.h"
#include "spec/scheduler_names.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr int kMostPictures = 10;  // of one request, as OpenAI has it
constexpr int kMostPartialImages = 3;
constexpr float kEditStrength = 0.75F;
constexpr float kFaithfulStrength = 0.5F;  // input_fidelity high
constexpr float kRepaintStrength = 1.0F;   // what a mask shows
constexpr float kVariationStrength = 0.6F;

// The request while it is read.
struct Draft {
  const OpenaiContext& context;
  const OpenaiForm& form;
  OpenaiRequest request;
  GenerationSpec spec;
  std::vector<Complaint> complaints;
  ErrorCode code = ErrorCode::invalid_argument;
  int pictures = 1;
};

// One of a few words, in any case; complains of others.
template <std::size_t N>
std::string read_word(const TolerantReader& in, std::string_view key, std::string_view usual,
                      const std::array<std::string_view, N>& words) {
  std::string word(usual);
  if (!in.text(key, word)) return word;
  word = to_lower(word);
  if (std::ranges::find(words, word) != words.end()) return word;
  const std::vector<std::string> names(words.begin(), words.end());
  in.complain(key, fmt::format("is \"{}\", must be {}", word.substr(0, 60), join_with_or(names)));
  return std::string(usual);
}

void read_prompt(Draft& draft, const TolerantReader& in) {
  in.text("prompt", draft.request.prompt);
  if (std::string trouble = max_bytes(draft.context.limits.prompt_bytes)(draft.request.prompt); !trouble.empty()) {
    return in.complain("prompt", std::move(trouble));
  }
  const bool is_empty = !not_empty()(draft.request.prompt).empty();
  if (is_empty && draft.request.kind != OpenaiKind::variations) in.complain("prompt", "is required");
  std::string negative;
  in.text("negative_prompt", negative);
  const bool weighted = read_word<2>(in, "prompt_syntax", "plain", {"plain", "webui"}) == "webui";
  draft.spec.prompt_syntax = PromptSyntax::webui;
  draft.spec.prompt = weighted ? draft.request.prompt : literal_prompt(draft.request.prompt);
  draft.spec.negative_prompt = weighted ? negative : literal_prompt(negative);
}

void read_model(Draft& draft, const TolerantReader& in) {
  std::string wanted;
  in.text("model", wanted);
  if (!wanted.empty()) {
    const auto found = draft.context.models.find(ModelRole::checkpoint, wanted);
    if (found) {
      draft.spec.model = (*found)->file;
      return;
    }
    if (draft.context.strict_models) {
      draft.code = ErrorCode::not_found;
      return in.complain("model", found.error().message);
    }
  }
  const auto checkpoints = draft.context.models.of(ModelRole::checkpoint);
  draft.spec.model = draft.context.default_model;
  if (draft.spec.model.empty() && !checkpoints.empty()) draft.spec.model = checkpoints.front()->file;
  if (draft.spec.model.empty()) {
    draft.code = ErrorCode::not_found;
    return in.complain("model", "there is no checkpoint in the models directories");
  }
  if (!wanted.empty()) {
    draft.request.warnings.push_back(
        fmt::format("model \"{}\" is not there; {} is used", wanted.substr(0, 100), draft.spec.model));
  }
}

// "832x1216"
std::optional<Size> parsed_size(std::string_view text) {
  Size size;
  const char* const end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  if (width.ec != std::errc() || width.ptr == end || *width.ptr != 'x') return std::nullopt;
  const auto height = std::from_chars(width.ptr + 1, end, size.height);
  if (height.ec != std::errc() || height.ptr != end) return std::nullopt;
  return size;
}

void read_size(Draft& draft, const TolerantReader& in) {
  const Limits& limits = draft.context.limits;
  std::string text = "auto";
  in.text("size", text);
  text = to_lower(text);
  if (text == "auto") {
    if (draft.spec.init_image) {
      // Its own; what it is not exactly, it is cropped to.
      if (const auto size = size_like(*draft.spec.init_image, limits)) {
        draft.spec.width = size->width;
        draft.spec.height = size->height;
      } else {
        in.complain("image", size.error().message);
      }
    }
  } else {
    const std::optional<Size> size = parsed_size(text);
    const auto fits = [&](int side) {
      return side >= limits.min_side && side <= limits.max_side && side % limits.side_multiple == 0;
    };
    if (!size || !fits(size->width) || !fits(size->height)) {
      return in.complain("size",
                         fmt::format("is \"{}\", must be auto or WIDTHxHEIGHT, each {} to {} and a multiple of {}",
                                     text.substr(0, 60), limits.min_side, limits.max_side, limits.side_multiple));
    }
    draft.spec.width = size->width;
    draft.spec.height = size->height;
  }
  draft.spec.resize_mode = ResizeMode::crop;
  draft.request.size = fmt::format("{}x{}", draft.spec.width, draft.spec.height);
}

void read_quality(Draft& draft, const TolerantReader& in) {
  const std::string word =
      read_word<7>(in, "quality", "auto", {"auto", "low", "medium", "high", "standard", "hd", "draft"});
  const bool low = word == "low" || word == "draft";
  const bool high = word == "high" || word == "hd";
  draft.request.quality = low ? "low" : high ? "high" : "medium";
  draft.spec.steps = std::min(low ? 12 : high ? 40 : 25, draft.context.limits.max_steps);
  in.whole("steps", draft.spec.steps, 1, draft.context.limits.max_steps);
}

void read_output(Draft& draft, const TolerantReader& in) {
  draft.request.format = read_word<4>(in, "output_format", "png", {"png", "jpeg", "jpg", "webp"});
  if (draft.request.format == "jpg") draft.request.format = "jpeg";
  draft.spec.output.format = *value_of<ImageFormat>(draft.request.format);
  int compression = 100;
  if (in.whole("output_compression", compression, 0, 100)) draft.spec.output.quality = std::max(compression, 1);
  draft.request.background = read_word<3>(in, "background", "auto", {"auto", "opaque", "transparent"});
  if (draft.request.background == "transparent") {
    in.complain("background", "is \"transparent\"; pictures are opaque, it must be auto or opaque");
  }
  draft.request.as_url = read_word<2>(in, "response_format", "b64_json", {"b64_json", "url"}) == "url";
  in.flag("stream", draft.request.stream);
  in.whole("partial_images", draft.request.partial_images, 0, kMostPartialImages);
}

// The extensions.
void read_sampling(Draft& draft, const TolerantReader& in) {
  const Limits& limits = draft.context.limits;
  draft.spec.seed = random_u64() >> 11U;  // 53 bits, which every client can hold
  in.seed("seed", draft.spec.seed);
  if (!in.number("guidance_scale", draft.spec.guidance_scale, limits.min_guidance, limits.max_guidance)) {
    in.number("cfg_scale", draft.spec.guidance_scale, limits.min_guidance, limits.max_guidance);
  }
  std::string sampler;
  std::string schedule;
  const bool has_sampler = in.text("sampler", sampler);
  const bool has_schedule = in.text("scheduler", schedule);
  if (!has_sampler && has_schedule && resolve_scheduler(schedule)) {
    // diffusers calls the sampler a scheduler.
    draft.spec.scheduler.name = schedule;
    return;
  }
  if (!has_sampler) sampler = "Euler";
  const auto resolved = resolve_scheduler(sampler);
  if (!resolved) return in.complain("sampler", resolved.error().message);
  if (has_sampler) draft.spec.scheduler = {.name = resolved->class_name, .options = resolved->options};
  if (!has_schedule) return;
  const auto options = resolve_schedule(schedule, resolved->class_name);
  if (!options) return in.complain("scheduler", options.error().message);
  draft.spec.scheduler.name = resolved->class_name;
  draft.spec.scheduler.options.insert(draft.spec.scheduler.options.end(), options->begin(), options->end());
}

// ["name", "name:0.8", {"name", "weight"}]
void read_loras(Draft& draft, const TolerantReader& in) {
  const Limits& limits = draft.context.limits;
  const std::vector<const json*> all = in.list("loras");
  if (all.size() > static_cast<std::size_t>(limits.max_loras)) {
    return in.complain("loras", fmt::format("has {} LoRAs, at most {} are allowed", all.size(), limits.max_loras));
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    json one = *all[i];
    if (one.is_string()) {
      const std::string text = one.get<std::string>();
      const std::size_t colon = text.rfind(':');
      one = {{"name", text.substr(0, colon)}};
      if (colon != std::string::npos) one["weight"] = text.substr(colon + 1);
    }
    const TolerantReader lora(one, fmt::format("/loras/{}", i), draft.complaints);
    LoraUse use;
    std::string name;
    if (!lora.text("name", name)) lora.complain("name", "is required");
    lora.number("weight", use.unet_weight, -limits.max_lora_weight, limits.max_lora_weight);
    use.text_encoder_weight = use.unet_weight;
    if (const auto found = draft.context.models.find(ModelRole::lora, name)) {
      use.model = (*found)->file;
    } else if (!name.empty()) {
      lora.complain("name", found.error().message);
    }
    draft.spec.loras.push_back(std::move(use));
  }
}

// Files of the form, or base64 in JSON; one at most.
std::optional<ImageSource> read_one_picture(Draft& draft, const TolerantReader& in, std::string_view key,
                                            const std::vector<std::string>& files) {
  std::vector<Result<ImageSource>> pictures;
  const Limits& limits = draft.context.limits;
  for (const std::string& file : files) pictures.push_back(check_picture(file, limits));
  for (const json* value : in.list(key)) {
    if (value->is_string()) {
      pictures.push_back(decode_picture(value->get_ref<const std::string&>(), limits));
    } else {
      in.complain(key, expected("a picture in base64", *value));
    }
  }
  if (pictures.size() > 1) {
    in.complain(key, fmt::format("has {} pictures, at most 1 is allowed", pictures.size()));
  }
  if (pictures.empty()) return std::nullopt;
  if (pictures.front()) return std::move(*pictures.front());
  in.complain(key, pictures.front().error().message);
  return std::nullopt;
}

void read_pictures(Draft& draft, const TolerantReader& in) {
  if (draft.request.kind == OpenaiKind::generations) return;
  const bool has_none = draft.form.images.empty() && in.list("image").empty();
  if (has_none) return in.complain("image", "is required");
  draft.spec.init_image = read_one_picture(draft, in, "image", draft.form.images);
  const bool edits = draft.request.kind == OpenaiKind::edits;
  draft.spec.strength = edits ? kEditStrength : kVariationStrength;
  if (edits && read_word<2>(in, "input_fidelity", "low", {"low", "high"}) == "high") {
    draft.spec.strength = kFaithfulStrength;
  }
  if (edits) draft.spec.mask_image = read_one_picture(draft, in, "mask", draft.form.masks);
  if (draft.spec.mask_image) {
    draft.spec.mask.part = MaskPart::transparency;
    draft.spec.strength = kRepaintStrength;
  }
  in.number("strength", draft.spec.strength, 0.0F, 1.0F);
}

json echo_of(const json& fields) {
  json echo = fields;
  for (const char* key : {"image", "mask", "user"}) echo.erase(key);
  return echo;
}

// "image[]" and "image[0]" are "image", in a list.
std::string_view list_name(std::string_view name) {
  const std::size_t bracket = name.find('[');
  const bool is_list = name.ends_with(']') && bracket != std::string_view::npos && bracket > 0;
  return is_list ? name.substr(0, bracket) : name;
}

}  // namespace

OpenaiForm openai_form(std::span<const FormPart> parts) {
  OpenaiForm form;
  for (const FormPart& part : parts) {
    const std::string name(list_name(part.name));
    if (!part.filename.empty() && name == "image") {
      form.images.push_back(part.bytes);
    } else if (!part.filename.empty() && name == "mask") {
      form.masks.push_back(part.bytes);
    } else if (part.filename.empty() && name != part.name) {
      form.fields[name].push_back(part.bytes);
    } else if (part.filename.empty()) {
      form.fields[name] = part.bytes;
    }
  }
  return form;
}

tl::expected<OpenaiRequest, Refusal> decode_openai(OpenaiKind kind, const OpenaiForm& form,
                                                   const OpenaiContext& context) {
  Draft draft{.context = context, .form = form};
  draft.request.kind = kind;
  const TolerantReader in(form.fields, "", draft.complaints);
  read_prompt(draft, in);
  read_model(draft, in);
  read_pictures(draft, in);
  read_size(draft, in);
  read_quality(draft, in);
  read_output(draft, in);
  read_sampling(draft, in);
  read_loras(draft, in);
  in.whole("n", draft.pictures, 1, kMostPictures);
  // Evenly before the end, which is the picture itself.
  const OpenaiRequest& request = draft.request;
  if (request.stream && request.partial_images > 0) {
    draft.spec.output.preview_every = std::max(1, draft.spec.steps / (request.partial_images + 1));
  }
  if (!draft.complaints.empty()) {
    Error error{draft.code, as_error(draft.complaints).message};
    return tl::unexpected(Refusal{std::move(error), std::move(draft.complaints)});
  }
  static constexpr std::array kTags = {"generations", "edits", "variations"};
  const GenerationRequest whole{
      std::move(draft.spec), {.tags = {"openai", kTags[static_cast<std::size_t>(kind)]}}, draft.request.warnings};
  draft.request.jobs = split_into_batches(whole, draft.pictures, context.limits.max_batch);
  draft.request.echo = echo_of(form.fields);
  return std::move(draft.request);
}

std::string literal_prompt(std::string_view text) {
  constexpr std::string_view kBreak = "BREAK";
  std::string literal;
  while (!text.empty()) {
    if (text.starts_with(kBreak)) {
      literal += "break";  // CLIP knows lower case only: the same word
      text.remove_prefix(kBreak.size());
      continue;
    }
    if (std::string_view("()[]\\").find(text.front()) != std::string_view::npos) literal += '\\';
    literal += text.front();
    text.remove_prefix(1);
  }
  return literal;
}

}  // namespace darkroom
