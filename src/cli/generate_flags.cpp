#include "cli/generate_flags.h"

#include <array>
#include <filesystem>
#include <utility>

#include <CLI/CLI.hpp>

#include "base/json_text.h"
#include "base/text.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Texts = std::vector<std::string>;

// What is no number stays a text, for the decoder to complain about.
json number_or_text(std::string_view text) {
  const Result<json> value = parse_json(text);
  return value && value->is_number() ? *value : json(text);
}

std::string as_text(const Texts& texts, json& value) {
  value = texts.back();
  return "";
}

std::string as_number(const Texts& texts, json& value) {
  value = number_or_text(texts.back());
  return "";
}

std::string as_true(const Texts&, json& value) {
  value = true;
  return "";
}

// A model: a path if there is such a file, else a name.
std::string path_or_name(const std::string& text) {
  std::error_code error;
  return fs::exists(text, error) ? fs::absolute(text).string() : text;
}

std::string as_model(const Texts& texts, json& value) {
  value = path_or_name(texts.back());
  return "";
}

std::string as_path(const Texts& texts, json& value) {
  value = fs::absolute(texts.back()).string();
  return "";
}

// "832x1216" and the like: numbers between separators, into the given keys.
template <std::size_t N>
std::string as_numbers(const Texts& texts, json& value, char separator, const std::array<const char*, N>& keys,
                       const char* form) {
  const std::vector<std::string_view> parts = split(texts.back(), separator);
  if (parts.size() != N) return fmt::format("is \"{}\", must have the form {}", texts.back(), form);
  for (std::size_t i = 0; i < N; ++i) value[keys[i]] = number_or_text(parts[i]);
  return "";
}

std::string as_size(const Texts& texts, json& value) {
  return as_numbers<2>(texts, value, 'x', {"width", "height"}, "WxH");
}

std::string as_point(const Texts& texts, json& value) { return as_numbers<2>(texts, value, ',', {"x", "y"}, "X,Y"); }

std::string as_extent(const Texts& texts, json& value) {
  return as_numbers<4>(texts, value, ',', {"left", "top", "right", "bottom"}, "LEFT,TOP,RIGHT,BOTTOM");
}

// KEY=VALUE pairs; a value that is JSON counts as such (true, 0.5), else it is a text.
std::string as_options(const Texts& texts, json& value) {
  value = json::object();
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos) return fmt::format("is \"{}\", must have the form KEY=VALUE", text);
    const std::string option = text.substr(equals + 1);
    Result<json> parsed = parse_json(option);
    value[text.substr(0, equals)] = parsed ? std::move(*parsed) : json(option);
  }
  return "";
}

// FILE|NAME[:weight[:text encoder weight]]
std::string as_loras(const Texts& texts, json& value) {
  value = {{"enabled", true}, {"models", json::array()}};
  for (const std::string& text : texts) {
    const std::vector<std::string_view> parts = split(text, ':');
    if (parts.empty() || parts.size() > 3)
      return fmt::format("is \"{}\", must have the form MODEL[:WEIGHT[:WEIGHT]]", text);
    json lora = {{"name", path_or_name(std::string(parts[0]))}};
    if (parts.size() > 1) lora["weight"] = number_or_text(parts[1]);
    if (parts.size() > 2) lora["text_encoder_weight"] = number_or_text(parts[2]);
    value["models"].push_back(std::move(lora));
  }
  return "";
}

// MODEL=IMAGE[:scale[:start[:end]]][:type=NAME][:preprocess=NAME[,ARGUMENT…]]
std::string as_controlnets(const Texts& texts, json& value) {
  value = json::array();
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    const std::vector<std::string_view> parts =
        split(std::string_view(text).substr(equals == std::string::npos ? text.size() : equals + 1), ':');
    if (equals == 0 || parts.empty() || parts[0].empty()) {
      return fmt::format(
          "is \"{}\", must have the form MODEL=IMAGE[:SCALE[:START[:END]]][:type=NAME][:preprocess=NAME]", text);
    }
    json use = {{"model", path_or_name(text.substr(0, equals))}, {"control_image", fs::absolute(parts[0]).string()}};
    constexpr std::array kNumbers = {"conditioning_scale", "start", "end"};
    std::size_t numbers = 0;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      constexpr std::string_view kType = "type=";
      constexpr std::string_view kPreprocess = "preprocess=";
      if (parts[i].starts_with(kType)) {
        use["type"] = parts[i].substr(kType.size());
      } else if (parts[i].starts_with(kPreprocess)) {
        const std::vector<std::string_view> words = split(parts[i].substr(kPreprocess.size()), ',');
        json arguments = json::array();
        for (std::size_t k = 1; k < words.size(); ++k) arguments.push_back(number_or_text(words[k]));
        use["preprocessor"] = {{"name", words.empty() ? "" : words[0]}, {"arguments", std::move(arguments)}};
      } else if (numbers < kNumbers.size()) {
        use[kNumbers[numbers++]] = number_or_text(parts[i]);
      } else {
        return fmt::format("is \"{}\", has more numbers than SCALE:START:END", text);
      }
    }
    value.push_back(std::move(use));
  }
  return "";
}

// NAME[:ARGUMENT,…], one for each ControlNet before it
std::string as_preprocessors(const Texts& texts, json& value) {
  const std::size_t nets = value.is_array() ? value.size() : 0;
  if (texts.size() > nets) return fmt::format("is given {} times for {} --controlnet", texts.size(), nets);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t colon = texts[i].find(':');
    json arguments = json::array();
    if (colon != std::string::npos) {
      for (const std::string_view word : split(std::string_view(texts[i]).substr(colon + 1), ',')) {
        arguments.push_back(number_or_text(word));
      }
    }
    value[i]["preprocessor"] = {{"name", texts[i].substr(0, colon)}, {"arguments", std::move(arguments)}};
  }
  return "";
}

// TOKEN=FILE|NAME
std::string as_embeddings(const Texts& texts, json& value) {
  value = json::array();
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos)
      return fmt::format("is \"{}\", must have the form TOKEN=MODEL", text);
    value.push_back({{"token", text.substr(0, equals)}, {"model", path_or_name(text.substr(equals + 1))}});
  }
  return "";
}

}  // namespace

void GenerateFlags::add_text_to_image(CLI::App& app) {
  add(app, "Picture",
      {
          {"--model", "/models/base", "SDXL checkpoint: a file, a folder, or a name in the models directories", "MODEL",
           as_model},
          {"--prompt", "/prompt", "what the picture shows", "TEXT", as_text},
          {"--negative-prompt", "/negative_prompt", "what it does not show; not given is not the same as \"\"", "TEXT",
           as_text},
          {"--prompt-2", "/prompt_2", "for the second text encoder; the prompt, if not given", "TEXT", as_text},
          {"--negative-prompt-2", "/negative_prompt_2", "likewise", "TEXT", as_text},
          {"--width", "/dimensions/width", "pixels, a multiple of 8 [1024, or the init image's]", "N", as_number},
          {"--height", "/dimensions/height", "likewise", "N", as_number},
          {"--seed", "/hyperparameters/seed", "-1 draws one [-1]; picture i of a batch uses seed + i", "N", as_number},
          {"--batch-size", "/batch/size", "pictures to make [1]", "N", as_number},
          {"--output", "/output/save_path",
           "FILE.png, .jpg or .webp; several pictures become FILE-0.png, FILE-1.png, …", "FILE", as_path},
          {"--quality", "/output/quality", "of JPEG and WebP, 1 to 100 [95]", "N", as_number},
      });
  add(app, "Sampling",
      {
          {"--steps", "/hyperparameters/num_inference_steps", "denoising steps [25]", "N", as_number},
          {"--guidance-scale", "/hyperparameters/guidance_scale",
           "how closely to follow the prompt; 1: no guidance [7.5]", "X", as_number},
          {"--scheduler", "/scheduler",
           "EulerDiscrete, DDIMScheduler, \"DPM++ 2M Karras\", …; the model's own, if not given", "NAME", as_text},
          {"--scheduler-option", "/scheduler_options",
           "a diffusers config key, as in use_karras_sigmas=true; repeatable", "KEY=VALUE", as_options, Times::many},
          {"--original-size", "/micro_conditioning/original_size", "size that SDXL is told the picture had", "WxH",
           as_size},
          {"--crop", "/micro_conditioning/crop_top_left", "corner that SDXL is told it was cut at [0,0]", "X,Y",
           as_point},
          {"--target-size", "/micro_conditioning/target_size", "size that SDXL is told it shall have", "WxH", as_size},
          {"--precision", "/precision/dtype", "auto, float32, bfloat16 or int8 [auto]", "NAME", as_text},
      });
  add(app, "More control",
      {
          {"--prompt-syntax", "/prompt_syntax", "plain, or webui: (weights:1.2), BREAK, long prompts [plain]", "NAME",
           as_text},
          {"--clip-skip", "/clip_skip", "layers of the text encoders to leave out, as in diffusers [0]", "N",
           as_number},
          {"--guidance-rescale", "/hyperparameters/guidance_rescale", "0 to 1 [0]", "X", as_number},
          {"--tile-x", "/tiling/x", "left and right edges fit together", "", as_true},
          {"--tile-y", "/tiling/y", "upper and lower edges fit together", "", as_true},
          {"--negative-original-size", "/micro_conditioning/negative_original_size",
           "the same sizes for the negative prompt", "WxH", as_size},
          {"--negative-crop", "/micro_conditioning/negative_crop_top_left", "likewise", "X,Y", as_point},
          {"--negative-target-size", "/micro_conditioning/negative_target_size", "likewise", "WxH", as_size},
          {"--vae-precision", "/precision/vae_dtype", "auto, float32 or bfloat16 [auto]", "NAME", as_text},
      });
}

void GenerateFlags::add_steering(CLI::App& app) {
  add(app, "Starting from a picture",
      {
          {"--init-image", "/init_image", "picture to start from", "FILE", as_path},
          {"--strength", "/hyperparameters/strength", "how much of it to change, 0 to 1 [0.8]", "X", as_number},
          {"--mask-image", "/mask_image", "what is white here is painted anew", "FILE", as_path},
          {"--resize-mode", "/resize_mode", "if it has another size: refuse, stretch, crop or pad [refuse]", "NAME",
           as_text},
          {"--extend", "/extend", "paint beyond its edges, in pixels", "LEFT,TOP,RIGHT,BOTTOM", as_extent},
      });
  add(app, "Further models",
      {
          {"--vae", "/models/vae", "another VAE", "MODEL", as_model},
          {"--refiner", "/models/refiner", "SDXL refiner", "MODEL", as_model},
          {"--refiner-switch", "/refiner/switch_at", "part of the schedule after which the refiner goes on, 0 to 1",
           "X", as_number},
          {"--refiner-strength", "/refiner/strength", "or: how much it changes of the finished picture, 0 to 1", "X",
           as_number},
          {"--aesthetic-score", "/micro_conditioning/aesthetic_score", "that the refiner is told [6]", "X", as_number},
          {"--negative-aesthetic-score", "/micro_conditioning/negative_aesthetic_score", "[2.5]", "X", as_number},
          {"--lora", "/lora", "LoRA with its weights for UNet and text encoders; repeatable", "MODEL[:WEIGHT[:WEIGHT]]",
           as_loras, Times::many},
          {"--controlnet", "/controlnet", "ControlNet with its picture; repeatable",
           "MODEL=IMAGE[:SCALE[:START[:END]]][:type=NAME][:preprocess=NAME,ARGUMENT…]", as_controlnets, Times::many},
          {"--preprocess", "/controlnet",
           "what makes the ControlNet's picture from the one given; the i-th belongs to the i-th --controlnet",
           "NAME[:ARGUMENT,…]", as_preprocessors, Times::many, "preprocessor"},
          {"--save-control-maps", "/output/save_control_maps", "write the pictures that ControlNets saw", "", as_true},
          {"--guess-mode", "/guess_mode", "ControlNets act without the prompt", "", as_true},
          {"--embedding", "/embeddings", "textual inversion; repeatable", "TOKEN=MODEL", as_embeddings, Times::many},
      });
  add(app, "More noise and guidance",
      {
          {"--pag-scale", "/hyperparameters/pag_scale", "perturbed-attention guidance [0]", "X", as_number},
          {"--variation-seed", "/variation/seed", "noise to mix in", "N", as_number},
          {"--variation-strength", "/variation/strength", "how much of it, 0 to 1", "X", as_number},
          {"--vae-tile", "/precision/vae_tile",
           "what the VAE works on at a time: a square of this side, in latents; 0: only where memory demands it [0]",
           "N", as_number},
      });
  add(app, "Larger",
      {
          {"--upscaler", "/output/upscale/method", "upscaler model, or lanczos", "MODEL", as_model},
          {"--upscale-factor", "/output/upscale/factor", "[2]", "X", as_number},
          {"--hires-factor", "/hires/factor", "second pass at this many times the size", "X", as_number},
          {"--hires-steps", "/hires/steps", "0: as the first pass [0]", "N", as_number},
          {"--hires-strength", "/hires/strength", "[0.7]", "X", as_number},
          {"--hires-upscaler", "/hires/upscaler", "latent, lanczos, or an upscaler model [latent]", "MODEL", as_model},
      });
}

void GenerateFlags::add(CLI::App& app, const char* group, const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    Given& given = flags_.emplace_back(Given{row, {}});
    CLI::Option* option = nullptr;
    if (row.placeholder.empty()) {
      option = app.add_flag_callback(
          row.flag, [&given] { given.texts = {"true"}; }, row.help);
    } else if (row.times == Times::many) {
      option = app.add_option(row.flag, given.texts, row.help)->allow_extra_args(false);
    } else {
      const auto take = [&given](const std::string& text) { given.texts = {text}; };
      option = app.add_option_function<std::string>(row.flag, take, row.help);
    }
    option->type_name(row.placeholder)->group(group);
  }
}

json GenerateFlags::data(std::vector<Complaint>& complaints) const {
  json data = json::object();
  for (const Given& given : flags_) {
    if (given.texts.empty()) continue;
    std::string trouble;
    for (const std::string& text : given.texts) {
      const std::optional<std::size_t> offset = first_invalid_utf8(text);
      if (offset) trouble = fmt::format("is not UTF-8: byte {} (counted from 0) belongs to no character", *offset);
    }
    if (trouble.empty()) trouble = given.row.convert(given.texts, data[json::json_pointer(given.row.pointer)]);
    if (!trouble.empty()) complaints.push_back({given.row.flag, trouble});
  }
  return data;
}

std::optional<std::size_t> GenerateFlags::filled(const Given& given, const std::string& pointer) {
  const auto covers = [&](const std::string& part) { return (pointer + "/").starts_with(part + "/"); };
  if (given.row.of_element.empty()) {
    return covers(given.row.pointer) ? std::optional(given.row.pointer.size()) : std::nullopt;
  }
  for (std::size_t i = 0; i < given.texts.size(); ++i) {
    const std::string part = fmt::format("{}/{}/{}", given.row.pointer, i, given.row.of_element);
    if (covers(part)) return part.size();
  }
  return std::nullopt;
}

std::vector<Complaint> GenerateFlags::in_flags(std::vector<Complaint> complaints) const {
  for (Complaint& complaint : complaints) {
    const Row* best = nullptr;
    std::size_t longest = 0;
    for (const Given& given : flags_) {
      const std::optional<std::size_t> length = filled(given, complaint.pointer);
      if (!length || (best != nullptr && *length <= longest)) continue;
      best = &given.row;
      longest = *length;
    }
    if (best != nullptr) complaint.pointer = best->flag;
  }
  return complaints;
}

}  // namespace darkroom
