// T17 and T18: alwayson_scripts, of which ControlNet's is the one that there is.
#include <algorithm>
#include <array>

#include "base/text.h"
#include "service/api/controlnet_names.h"
#include "service/api/sdapi_inside.h"
#include "spec/generation_spec.h"

namespace darkroom {
namespace {

using nlohmann::json;

// A number or one of the labels that webui's page has for it.
template <std::size_t N>
int read_choice(const TolerantReader& in, std::string_view key, int usual,
                const std::array<std::pair<std::string_view, int>, N>& labels) {
  const json* value = in.value(key);
  if (value == nullptr) return usual;
  if (value->is_string()) {
    const std::string wanted = to_lower(value->get_ref<const std::string&>());
    for (const auto& [label, number] : labels) {
      if (to_lower(label) == wanted) return number;
    }
    if (wanted.find_first_not_of("0123456789") != std::string::npos) {
      std::vector<std::string> names;
      for (const auto& [label, number] : labels) names.emplace_back(label);
      in.complain(key, fmt::format("is \"{}\", must be {}", wanted.substr(0, 60), join_with_or(names)));
      return usual;
    }
  }
  int number = usual;
  in.whole(key, number, 0, 2);
  return number;
}

constexpr std::array<std::pair<std::string_view, int>, 5> kResizeModes = {{{"Just Resize", 0},
                                                                           {"Crop and Resize", 1},
                                                                           {"Resize and Fill", 2},
                                                                           {"Scale to Fit (Inner Fit)", 1},
                                                                           {"Envelope (Outer Fit)", 2}}};
constexpr std::array<std::pair<std::string_view, int>, 3> kControlModes = {
    {{"Balanced", 0}, {"My prompt is more important", 1}, {"ControlNet is more important", 2}}};

// The unit's picture: a text, an object with `image` and `mask`, or in img2img the picture to start from.
void read_unit_picture(SdapiDraft& draft, const TolerantReader& in, ControlNetUse& use) {
  bool masked = in.has("mask");
  for (const char* key : {"input_image", "image"}) {
    const json* value = in.value(key);
    if (value == nullptr) continue;
    if (value->is_object()) {
      const TolerantReader inner = in.object(key);
      masked = masked || inner.has("mask");
      if (inner.has("image")) read_picture(draft, inner, "image", *inner.value("image"), use.image);
    } else {
      read_picture(draft, in, key, *value, use.image);
    }
    if (masked) draft.warn("controlnet: a unit's mask is not used");
    return;
  }
  if (draft.spec.init_image) {
    use.image = *draft.spec.init_image;
  } else {
    in.complain("image", "is required");
  }
}

// `prefix`: of the keys, which detect calls "controlnet_module" and so on.
void read_module(SdapiDraft& draft, const TolerantReader& in, const std::string& prefix, ControlNetUse& use) {
  std::string module = "none";
  in.text(prefix + "module", module);
  const ControlModule* known = find_control_module(module);
  if (known == nullptr) {
    std::vector<std::string> names;
    for (const ControlModule& one : control_modules()) names.emplace_back(one.module);
    return in.complain(prefix + "module",
                       fmt::format("is \"{}\"; built in are {}", module.substr(0, 60), join_with_or(names)));
  }
  use.preprocess.name = known->preprocessor;
  use.type = known->type;
  if (known->preprocessor.empty()) return;
  bool pixel_perfect = false;
  in.flag(prefix + "pixel_perfect", pixel_perfect);
  int resolution = 512;
  in.whole(prefix + "processor_res", resolution, -1, draft.context.limits.max_side);
  use.preprocess.resolution = pixel_perfect || resolution < 0 ? 0 : resolution;
  if (known->preprocessor != "canny") return;
  float low = 100.0F;
  float high = 200.0F;
  for (const auto& [key, threshold] : {std::pair("threshold_a", &low), {"threshold_b", &high}}) {
    float given = -1.0F;  // compat(webui): the module's own
    if (in.number(prefix + key, given, -1.0F, 255.0F) && given >= 0.0F) *threshold = given;
  }
  use.preprocess.arguments = {low, high};
}

void read_unit_strengths(SdapiDraft& draft, const TolerantReader& in, ControlNetUse& use) {
  in.number("weight", use.scale, 0.0F, 2.0F);
  in.number("guidance", use.end, 0.0F, 1.0F);  // an older name
  in.number("guidance_start", use.start, 0.0F, 1.0F);
  in.number("guidance_end", use.end, 0.0F, 1.0F);
  if (use.start > use.end) in.complain("guidance_start", fmt::format("is {}, after the end {}", use.start, use.end));
  const int resize = read_choice(in, "resize_mode", 1, kResizeModes);
  if (resize == 2) draft.warn("controlnet: resize_mode 2 is done as 0, the picture is resized to the size made");
  const int control = read_choice(in, "control_mode", 0, kControlModes);
  if (control == 1) draft.warn("controlnet: control_mode 1 is done as 0, balanced");
  if (control == 2) draft.spec.guess_mode = true;
}

void read_unit(SdapiDraft& draft, const TolerantReader& in) {
  bool enabled = true;
  in.flag("enabled", enabled);
  if (!enabled) return;
  std::string model;
  in.text("model", model);
  const bool has_picture = in.has("image") || in.has("input_image");
  if (is_none(model)) {
    // A unit as it lies there unused.
    if (has_picture) in.complain("model", "is required where there is a picture");
    return;
  }
  ControlNetUse use;
  read_module(draft, in, "", use);
  std::string type;
  if (in.text("union_control_type", type) && to_lower(type) != "unknown") use.type = to_lower(type);
  use.model = find_model(draft, in, "model", ModelRole::controlnet, model);
  read_unit_picture(draft, in, use);
  read_unit_strengths(draft, in, use);
  draft.spec.controlnets.push_back(std::move(use));
}

// A script's arguments: a list, or an object {"args": […]}; of older clients the list itself.
json arguments_of(const json& script) {
  const json* args = &script;
  if (script.is_object()) {
    const auto found = script.find("args");
    if (found == script.end()) return json::array();
    args = &*found;
  }
  if (args->is_array()) return *args;
  // One unit, or units by number.
  return args->is_null() ? json::array() : json::array({*args});
}

bool is_off(const json& argument) {
  if (argument == false) return true;
  return argument.is_object() && argument.contains("enabled") && argument["enabled"] == false;
}

}  // namespace

void read_scripts(SdapiDraft& draft, const TolerantReader& in) {
  std::string selected;
  if (in.text("script_name", selected) && !is_none(selected)) {
    in.complain("script_name", fmt::format("is \"{}\"; there are no scripts", selected.substr(0, 60)));
  }
  const TolerantReader scripts = in.object("alwayson_scripts");
  const json* all = in.value("alwayson_scripts");
  if (all == nullptr || !all->is_object()) return;
  for (const auto& [name, script] : all->items()) {
    const json arguments = arguments_of(script);
    const bool off = arguments.empty() || arguments[0] == false || std::ranges::all_of(arguments, is_off);
    if (off) continue;
    if (to_lower(name) != "controlnet") {
      scripts.complain(name, fmt::format("the script \"{}\" is not there", name.substr(0, 60)));
      continue;
    }
    const auto most = static_cast<std::size_t>(draft.context.limits.max_controlnets);
    if (arguments.size() > most) {
      scripts.complain(name, fmt::format("has {} units, at most {} are allowed", arguments.size(), most));
      continue;
    }
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      if (is_off(arguments[i]) || !arguments[i].is_object()) continue;
      const TolerantReader unit(arguments[i], fmt::format("{}/args/{}", scripts.pointer_of(name), i), draft.complaints);
      read_unit(draft, unit);
    }
  }
}

tl::expected<SdapiExtras, Refusal> decode_sdapi_detect(const json& body, const SdapiContext& context) {
  constexpr std::size_t kMostPictures = 100;
  constexpr const char* kPictures = "controlnet_input_images";
  SdapiDraft draft{.kind = SdapiKind::img2img, .context = context};
  const TolerantReader in(body, "", draft.complaints);
  ControlNetUse use;
  read_module(draft, in, "controlnet_", use);
  std::vector<const json*> pictures = in.list(kPictures);
  if (pictures.empty()) in.complain(kPictures, "is required");
  if (pictures.size() > kMostPictures) {
    in.complain(kPictures, fmt::format("has {} pictures, at most {} are allowed", pictures.size(), kMostPictures));
    pictures.clear();
  }
  SdapiExtras result;
  for (const json* each : pictures) {
    ImageSource picture;
    if (!read_picture(draft, in, kPictures, *each, picture)) continue;
    if (!use.preprocess.name.empty()) {
      GenerationRequest job;
      job.job.tags = {"sdapi", "detect"};
      job.spec.prompt = use.preprocess.name;  // a message must have one; nobody reads it
      job.spec.steps = 1;
      job.spec.output.embed_parameters = false;
      job.spec.controlnets = {use};
      job.spec.controlnets.front().image = picture;
      DR_ASSERT(only_preprocesses(job.spec));
      result.jobs.push_back(std::move(job));
    }
    result.pictures.push_back(std::move(picture));
  }
  if (!draft.complaints.empty()) return tl::unexpected(refusal_of(draft));
  return result;
}

}  // namespace darkroom
