#include "service/api/sdxl_request.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/text.h"
#include "service/api/folded_names.h"
#include "spec/scheduler_names.h"

namespace darkroom {
namespace {

using nlohmann::json;
using Complaints = std::vector<Complaint>;

// The specification's defaults.
constexpr const char* kDefaultModel = "cyberrealisticPony_v125";
constexpr const char* kDefaultScheduler = "DPMSolverMultistepScheduler";
constexpr const char* kDefaultUpscaler = "realesrgan";
constexpr const char* kDefaultSavePath = "outputs/";
constexpr int kDefaultSide = 1024;  // pixels
constexpr int kDefaultSteps = 25;
constexpr int kDefaultQuality = 95;
constexpr int kDefaultTimeout = 300;          // seconds
constexpr int kPreprocessorResolution = 512;  // pixels
constexpr double kMaxControlNetWeight = 2.0;

constexpr std::array<std::string_view, 33> kNames = {
    "model",          "base",     "refiner",        "vae",           "conditioning",    "prompt",
    "negativePrompt", "loRAs",    "controlNets",    "modelPath",     "weight",          "conditioningImage",
    "scheduler",      "type",     "steps",          "guidanceScale", "hyperparameters", "seed",
    "strength",       "width",    "height",         "batchSize",     "output",          "format",
    "quality",        "savePath", "postProcessing", "factor",        "guidanceRescale", "pagScale",
    "metadata",       "tags",     "previewEvery"};

// Keys of the worker's message that a request may have beside the specification's own.
constexpr std::array<std::string_view, 18> kFurther = {"prompt_2",
                                                       "negative_prompt_2",
                                                       "prompt_syntax",
                                                       "clip_skip",
                                                       "guess_mode",
                                                       "embeddings",
                                                       "micro_conditioning",
                                                       "scheduler_options",
                                                       "variation",
                                                       "freeu",
                                                       "tiling",
                                                       "init_image",
                                                       "mask_image",
                                                       "mask",
                                                       "resize_mode",
                                                       "extend",
                                                       "hires",
                                                       "precision"};

// Where the worker's message has what the client's body has elsewhere.
struct Moved {
  std::string_view from, to;
};
constexpr std::array kMoved = {Moved{"/models", "/model"},
                               Moved{"/lora/models", "/conditioning/loRAs"},
                               Moved{"/controlnet", "/conditioning/controlNets"},
                               Moved{"/prompt", "/conditioning/prompt"},
                               Moved{"/negative_prompt", "/conditioning/negativePrompt"},
                               Moved{"/hyperparameters/num_inference_steps", "/scheduler/steps"},
                               Moved{"/hyperparameters/guidance_scale", "/scheduler/guidanceScale"},
                               Moved{"/hyperparameters/guidance_rescale", "/hyperparameters/guidanceRescale"},
                               Moved{"/hyperparameters/pag_scale", "/hyperparameters/pagScale"},
                               Moved{"/dimensions", "/hyperparameters"},
                               Moved{"/batch/size", "/hyperparameters/batchSize"},
                               Moved{"/output/save_path", "/output/savePath"},
                               Moved{"/output/preview_every", "/output/previewEvery"},
                               Moved{"/output/upscale", "/postProcessing"}};

constexpr std::array kMovedEnds = {Moved{"/name", "/modelPath"}, Moved{"/model", "/modelPath"},
                                   Moved{"/conditioning_scale", "/weight"},
                                   Moved{"/control_image", "/conditioningImage"}};

std::string moved_back(const std::string& pointer) {
  for (const auto& [from, to] : kMoved) {
    const bool whole = pointer == from;
    if (!whole && !pointer.starts_with(std::string(from) + "/")) continue;
    std::string rest = pointer.substr(from.size());
    if (from == "/controlnet" && rest.size() > 1 && std::isdigit(static_cast<unsigned char>(rest[1])) == 0) {
      rest.insert(0, "/0");  // one alone is no list there
    }
    for (const auto& [end, name] : kMovedEnds) {
      if (rest.ends_with(end)) rest.replace(rest.size() - end.size(), end.size(), name);
    }
    return std::string(to) + rest;
  }
  return pointer;
}

bool is_blank(const std::optional<std::string>& text) { return !text || !not_empty()(*text).empty(); }
bool has_text(const std::optional<std::string>& text) { return text && !text->empty(); }

std::string file_stem(std::string_view path) {
  const std::size_t slash = path.find_last_of("/\\");
  if (slash != std::string_view::npos) path.remove_prefix(slash + 1);
  return std::string(path.substr(0, path.find_last_of('.')));  // npos: all of it
}

double clamped(double value, double low, double high, std::string_view what, std::vector<std::string>& warnings) {
  const double result = std::clamp(value, low, high);
  if (result != value) {
    warnings.push_back(fmt::format("{} is {}, outside {} to {}; taken as {}", what, value, low, high, result));
  }
  return result;
}

void read_conditioning(JsonReader& in, SdxlRequest& request) {
  auto& conditioning = request.conditioning;
  in.field("prompt", conditioning.prompt);
  in.field("negativePrompt", conditioning.negative_prompt);
  const auto any = static_cast<std::size_t>(-1);  // the limits are the message's
  in.list("loRAs", conditioning.loras, any, [](JsonReader& one, SdxlLora& lora) {
    one.field("modelPath", lora.model_path);
    one.field("weight", lora.weight);
    return true;
  });
  in.list("controlNets", conditioning.controlnets, any, [](JsonReader& one, SdxlControlNet& net) {
    one.field("modelPath", net.model_path);
    one.field("weight", net.weight);
    one.field("conditioningImage", net.conditioning_image);
    return true;
  });
}

void read_hyperparameters(JsonReader& in, SdxlRequest& request) {
  auto& hyperparameters = request.hyperparameters;
  if (const json* seed = in.take("seed")) hyperparameters.seed = *seed;
  in.field("strength", hyperparameters.strength);
  in.field("width", hyperparameters.width);
  in.field("height", hyperparameters.height);
  in.field("batchSize", hyperparameters.batch_size);
  in.field("guidanceRescale", hyperparameters.guidance_rescale);
  in.field("pagScale", hyperparameters.pag_scale);
}

void read_fields(JsonReader& in, SdxlRequest& request) {
  in.object("model", [&](JsonReader& model) {
    model.field("base", request.model.base);
    model.field("refiner", request.model.refiner);
    model.field("vae", request.model.vae);
  });
  in.object("conditioning", [&](JsonReader& conditioning) { read_conditioning(conditioning, request); });
  in.object("scheduler", [&](JsonReader& scheduler) {
    scheduler.field("type", request.scheduler.type);
    scheduler.field("steps", request.scheduler.steps);
    scheduler.field("guidanceScale", request.scheduler.guidance_scale);
  });
  in.object("hyperparameters", [&](JsonReader& inner) { read_hyperparameters(inner, request); });
  in.object("output", [&](JsonReader& output) {
    output.field("format", request.output.format);
    output.field("quality", request.output.quality);
    output.field("savePath", request.output.save_path);
    output.field("previewEvery", request.output.preview_every);
  });
  in.list("postProcessing", request.post_processing, static_cast<std::size_t>(-1),
          [](JsonReader& one, SdxlPostProcessing& step) {
            one.required("type", step.type);
            one.field("factor", step.factor);
            one.field("model", step.model);
            return true;
          });
  for (const std::string_view key : kFurther) {
    if (const json* value = in.take(key)) request.further[std::string(key)] = *value;
  }
  // How the refiner is used and how the job is treated; the specification's keys of these names are elsewhere.
  if (const json* refiner = in.take("refiner")) request.further["refiner"] = *refiner;
  if (const json* metadata = in.take("metadata")) request.further["metadata"] = *metadata;
}

json lora_configuration(const std::vector<SdxlLora>& loras, const Limits& limits, std::vector<std::string>& warnings) {
  json models = json::array();
  for (const SdxlLora& lora : loras) {
    const double limit = limits.max_lora_weight;
    models.push_back({{"name", file_stem(lora.model_path)},
                      {"weight", clamped(lora.weight, -limit, limit, "the weight of a LoRA", warnings)}});
  }
  return {{"enabled", !loras.empty()}, {"models", std::move(models)}};
}

json controlnet_configuration(const std::vector<SdxlControlNet>& nets, std::vector<std::string>& warnings) {
  if (nets.empty()) return {{"enabled", false}};
  json all = json::array();
  for (const SdxlControlNet& net : nets) {
    json one = {
        {"enabled", true},
        {"type", infer_controlnet_type(net.model_path)},
        {"conditioning_scale", clamped(net.weight, 0.0, kMaxControlNetWeight, "the weight of a ControlNet", warnings)},
        {"control_image", net.conditioning_image},
        {"preprocessor", {{"enabled", true}, {"resolution", kPreprocessorResolution}}}};
    if (!net.model_path.empty()) one["model"] = file_stem(net.model_path);
    all.push_back(std::move(one));
  }
  // The specification takes the first, "for now"; one alone has its form.
  return all.size() == 1 ? all[0] : all;
}

json upscale_configuration(const std::vector<SdxlPostProcessing>& steps, std::vector<std::string>& warnings) {
  json upscale = {{"enabled", false}};
  for (const SdxlPostProcessing& step : steps) {
    if (to_lower(step.type) != "upscale") {
      warnings.push_back(fmt::format("postProcessing: there is no step \"{}\"; left out", step.type));
    } else if (upscale["enabled"] == true) {
      warnings.emplace_back("postProcessing: only the first Upscale is done");
    } else {
      upscale = {{"enabled", true},
                 {"factor", step.factor},
                 {"method", step.model ? to_lower(*step.model) : std::string(kDefaultUpscaler)}};
    }
  }
  return upscale;
}

int clamped_dimension(int value, std::string_view name, const Limits& limits, std::vector<std::string>& warnings) {
  const int inside = std::clamp(value, limits.min_side, limits.max_side);
  const int result = inside / limits.side_multiple * limits.side_multiple;
  if (result != value) {
    warnings.push_back(fmt::format("{} is {}, must be {} to {} and divisible by {}; taken as {}", name, value,
                                   limits.min_side, limits.max_side, limits.side_multiple, result));
  }
  return result;
}

json data_of(const SdxlRequest& request, const std::string& request_id, const Limits& limits,
             std::vector<std::string>& warnings) {
  const auto& hyper = request.hyperparameters;
  const std::string model = request.model.base.value_or(kDefaultModel);
  const auto optional_text = [](const std::optional<std::string>& text) { return text ? json(*text) : json(nullptr); };
  const auto [scheduler, known] =
      request.scheduler.type ? map_scheduler_type(*request.scheduler.type) : std::pair(kDefaultScheduler, true);
  if (!known) {
    warnings.push_back(
        fmt::format("scheduler.type \"{}\" is not known; taken as {}", *request.scheduler.type, kDefaultScheduler));
  }
  json data = {
      {"worker_type", name_of(worker_type_for(request))},
      {"prompt", request.conditioning.prompt.value_or("")},
      {"negative_prompt", request.conditioning.negative_prompt.value_or("")},
      {"model_name", model},
      {"hyperparameters",
       {{"num_inference_steps", request.scheduler.steps.value_or(kDefaultSteps)},
        {"guidance_scale", request.scheduler.guidance_scale.value_or(7.5)},
        {"seed", hyper.seed.value_or(-1)},
        {"strength", hyper.strength.value_or(0.8)}}},
      {"dimensions",
       {{"width", clamped_dimension(hyper.width.value_or(kDefaultSide), "width", limits, warnings)},
        {"height", clamped_dimension(hyper.height.value_or(kDefaultSide), "height", limits, warnings)}}},
      {"scheduler", scheduler},
      {"models",
       {{"base", model}, {"refiner", optional_text(request.model.refiner)}, {"vae", optional_text(request.model.vae)}}},
      {"lora", lora_configuration(request.conditioning.loras, limits, warnings)},
      {"controlnet", controlnet_configuration(request.conditioning.controlnets, warnings)},
      {"output",
       {{"format", to_lower(request.output.format.value_or("png"))},
        {"quality",
         static_cast<int>(clamped(request.output.quality.value_or(kDefaultQuality), 1, 100, "quality", warnings))},
        {"save_path", request.output.save_path.value_or(kDefaultSavePath)},
        {"upscale", upscale_configuration(request.post_processing, warnings)}}},
      {"batch",
       {{"size", static_cast<int>(clamped(hyper.batch_size.value_or(1), 1, limits.max_batch, "batchSize", warnings))},
        {"parallel", false}}},
      {"precision",
       {{"dtype", "float16"},
        {"vae_dtype", "float32"},
        {"cpu_offload", false},
        {"attention_slicing", true},
        {"vae_slicing", true}}},
      {"metadata",
       {{"request_id", request_id},
        {"priority", "normal"},
        {"timeout", kDefaultTimeout},
        {"tags", sdxl_tags(request)}}}};
  if (request.output.preview_every) data["output"]["preview_every"] = *request.output.preview_every;
  if (hyper.guidance_rescale) data["hyperparameters"]["guidance_rescale"] = *hyper.guidance_rescale;
  if (hyper.pag_scale) data["hyperparameters"]["pag_scale"] = *hyper.pag_scale;
  return data;
}

// What the client says of the job's treatment goes over the defaults; its tags go behind ours.
void merge_further(json& data, const json& further) {
  for (const auto& [key, value] : further.items()) {
    if (key != "metadata" || !value.is_object()) {
      data[key] = value;
      continue;
    }
    for (const auto& [name, inner] : value.items()) {
      json& target = data["metadata"][name];
      if (name == "tags" && inner.is_array()) {
        target.insert(target.end(), inner.begin(), inner.end());
      } else {
        target = inner;
      }
    }
  }
}

}  // namespace

tl::expected<SdxlRequest, Complaints> read_sdxl_request(const json& body) {
  Complaints complaints;
  std::vector<std::string_view> names(kNames.begin(), kNames.end());
  names.insert(names.end(), kFurther.begin(), kFurther.end());
  const json folded = with_folded_names(body, names, complaints);
  SdxlRequest request;
  Complaints of_fields = read_json(folded, [&](JsonReader& in) { read_fields(in, request); });
  complaints.insert(complaints.end(), of_fields.begin(), of_fields.end());
  if (!complaints.empty()) return tl::unexpected(std::move(complaints));
  return request;
}

Complaints validate_sdxl_request(const SdxlRequest& request, const Limits& limits) {
  Complaints complaints;
  const bool starts_from_picture = request.further.contains("init_image");
  if (is_blank(request.conditioning.prompt) && !starts_from_picture) {
    complaints.push_back({"/conditioning/prompt", "Prompt is required and cannot be empty"});
  }
  if (is_blank(request.model.base)) complaints.push_back({"/model/base", "Base model is required"});
  const auto check_side = [&](const std::optional<int>& side, const char* name, const char* pointer) {
    if (!side) return;
    const bool valid = *side >= limits.min_side && *side <= limits.max_side && *side % limits.side_multiple == 0;
    if (valid) return;
    complaints.push_back({pointer, fmt::format("{} must be between {} and {} and divisible by {}, but is {}", name,
                                               limits.min_side, limits.max_side, limits.side_multiple, *side)});
  };
  check_side(request.hyperparameters.width, "Width", "/hyperparameters/width");
  check_side(request.hyperparameters.height, "Height", "/hyperparameters/height");
  const auto& loras = request.conditioning.loras;
  for (std::size_t i = 0; i < loras.size(); ++i) {
    const std::string pointer = fmt::format("/conditioning/loRAs/{}", i);
    if (is_blank(loras[i].model_path)) {
      complaints.push_back({pointer + "/modelPath", "LoRA ModelPath cannot be empty"});
    }
    const double limit = limits.max_lora_weight;
    const bool inside = loras[i].weight >= -limit && loras[i].weight <= limit;
    if (inside) continue;
    complaints.push_back({pointer + "/weight", fmt::format("LoRA weight {} must be between {:.1f} and {:.1f}",
                                                           loras[i].weight, -limit, limit)});
  }
  return complaints;
}

WorkerType worker_type_for(const SdxlRequest& request) {
  const bool advanced = !request.conditioning.loras.empty() || !request.conditioning.controlnets.empty() ||
                        has_text(request.model.refiner) || has_text(request.model.vae) ||
                        !request.post_processing.empty() || request.hyperparameters.batch_size.value_or(1) > 1;
  return advanced ? WorkerType::enhanced_sdxl_worker : WorkerType::sdxl_worker;
}

std::pair<std::string, bool> map_scheduler_type(std::string_view type) {
  struct Pair {
    std::string_view type, scheduler;
  };
  static constexpr std::array kSchedulers = {Pair{"DPMSolverMultistep", "DPMSolverMultistepScheduler"},
                                             Pair{"DDIM", "DDIMScheduler"},
                                             Pair{"EulerDiscrete", "EulerDiscreteScheduler"},
                                             Pair{"EulerAncestral", "EulerAncestralDiscreteScheduler"},
                                             Pair{"DPMSolverSinglestep", "DPMSolverSinglestepScheduler"},
                                             Pair{"KDPM2Discrete", "KDPM2DiscreteScheduler"},
                                             Pair{"KDPM2Ancestral", "KDPM2AncestralDiscreteScheduler"},
                                             Pair{"HeunDiscrete", "HeunDiscreteScheduler"},
                                             Pair{"LMSDiscrete", "LMSDiscreteScheduler"},
                                             Pair{"UniPCMultistep", "UniPCMultistepScheduler"}};
  const auto* const found = std::ranges::find(kSchedulers, type, &Pair::type);
  if (found != kSchedulers.end()) return {std::string(found->scheduler), true};
  if (resolve_scheduler(type)) return {std::string(type), true};
  return {kDefaultScheduler, false};
}

std::string infer_controlnet_type(std::string_view model_path) {
  const std::string name = to_lower(file_stem(model_path));
  for (const char* type : {"canny", "depth", "pose", "scribble", "normal", "seg", "lineart"}) {
    if (name.find(type) != std::string::npos) return type;
  }
  return "canny";
}

std::vector<std::string> sdxl_tags(const SdxlRequest& request) {
  std::vector<std::string> tags = {"enhanced_sdxl", "c_sharp_service"};
  if (!request.conditioning.loras.empty()) tags.emplace_back("lora_enhanced");
  if (!request.conditioning.controlnets.empty()) tags.emplace_back("controlnet_guided");
  if (has_text(request.model.refiner)) tags.emplace_back("refiner_enhanced");
  if (!request.post_processing.empty()) tags.emplace_back("post_processed");
  return tags;
}

json transform_sdxl_request(const SdxlRequest& request, const std::string& request_id, const Limits& limits,
                            std::vector<std::string>& warnings) {
  json data = data_of(request, request_id, limits, warnings);
  merge_further(data, request.further);
  return {{"message_type", "inference_request"}, {"request_id", request_id}, {"data", std::move(data)}};
}

tl::expected<GenerationRequest, Complaints> decode_sdxl_request(const json& body, const Limits& limits) {
  const auto request = read_sdxl_request(body);
  if (!request) return tl::unexpected(request.error());
  Complaints complaints = validate_sdxl_request(*request, limits);
  std::vector<std::string> warnings;
  const json message = transform_sdxl_request(*request, "", limits, warnings);
  auto decoded = decode_generation(message["data"], limits);
  if (!decoded) {
    for (const Complaint& complaint : decoded.error()) {
      const std::string pointer = moved_back(complaint.pointer);
      // The transformer writes a base twice; and what the validator has said is said.
      const bool said = std::ranges::any_of(complaints, [&](const Complaint& one) { return one.pointer == pointer; });
      if (!said && complaint.pointer != "/model_name") complaints.push_back({pointer, complaint.message});
    }
  }
  if (!complaints.empty()) return tl::unexpected(std::move(complaints));
  // That there is no float16 is no news to who did not ask for it: the transformer did.
  if (!request->further.contains("precision")) {
    std::erase_if(decoded->warnings, [](const std::string& warning) { return warning.starts_with("precision."); });
  }
  decoded->warnings.insert(decoded->warnings.begin(), warnings.begin(), warnings.end());
  return std::move(*decoded);
}

tl::expected<GenerationRequest, Complaints> decode_job_request(const json& body, const Limits& limits) {
  const bool enhanced = body.is_object() && std::ranges::any_of(body.items(), [](const auto& item) {
                          const std::string name = to_lower(item.key());
                          return name == "conditioning" || name == "model";
                        });
  return enhanced ? decode_sdxl_request(body, limits) : decode_generation(body, limits);
}

}  // namespace darkroom
