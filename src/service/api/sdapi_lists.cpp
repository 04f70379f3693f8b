#include "service/api/sdapi_lists.h"

#include <map>

#include "base/text.h"
#include "service/api/controlnet_names.h"
#include "service/api/sdapi_inside.h"
#include "spec/scheduler_names.h"

namespace darkroom {
namespace {

using nlohmann::json;

json file_entry(const CatalogModel& model) {
  return {{"title", model.title()},
          {"model_name", model.stem()},
          {"hash", model.sha256.empty() ? json(nullptr) : json(model.short_hash())},
          {"sha256", model.sha256.empty() ? json(nullptr) : json(model.sha256)},
          {"filename", model.file},
          {"config", nullptr}};
}

json upscaler_entry(std::string_view name, const json& path) {
  return {{"name", name}, {"model_name", nullptr}, {"model_path", path}, {"model_url", nullptr}, {"scale", 4}};
}

constexpr int kLargestClipStop = 12;

}  // namespace

json sdapi_samplers() {
  json list = json::array();
  for (const SchedulerEntry& entry : known_schedulers()) {
    // Clients type the options as texts.
    list.push_back({{"name", entry.title}, {"aliases", entry.aliases}, {"options", json::object()}});
  }
  return list;
}

json sdapi_schedulers() {
  json list = json::array();
  for (const ScheduleEntry& entry : known_schedules()) {
    list.push_back({{"name", entry.name},
                    {"label", entry.title},
                    {"aliases", entry.aliases},
                    {"default_rho", -1.0},
                    {"need_inner_model", false}});
  }
  return list;
}

json sdapi_models(const ModelCatalog& models) {
  json list = json::array();
  for (const CatalogModel* model : models.of(ModelRole::checkpoint)) list.push_back(file_entry(*model));
  return list;
}

json sdapi_vaes(const ModelCatalog& models) {
  json list = json::array();
  for (const CatalogModel* model : models.of(ModelRole::vae)) {
    list.push_back({{"model_name", model->file}, {"filename", model->file}});
  }
  return list;
}

json sdapi_loras(const ModelCatalog& models) {
  json list = json::array();
  for (const CatalogModel* model : models.of(ModelRole::lora)) {
    json metadata = json::object();
    if (!model->sha256.empty()) metadata["sha256"] = model->sha256;
    list.push_back(
        {{"name", model->stem()}, {"alias", model->stem()}, {"path", model->file}, {"metadata", std::move(metadata)}});
  }
  return list;
}

json sdapi_embeddings(const ModelCatalog& models) {
  json loaded = json::object();
  for (const CatalogModel* model : models.of(ModelRole::embedding)) {
    loaded[model->stem()] = {{"step", nullptr},
                             {"sd_checkpoint", nullptr},
                             {"sd_checkpoint_name", nullptr},
                             {"shape", 2048},  // of SDXL's two encoders together
                             {"vectors", 1}};
  }
  return {{"loaded", std::move(loaded)}, {"skipped", json::object()}};
}

json sdapi_upscalers(const ModelCatalog& models) {
  json list = json::array({upscaler_entry("None", nullptr), upscaler_entry("Lanczos", nullptr)});
  for (const CatalogModel* model : models.of(ModelRole::upscaler)) {
    list.push_back(upscaler_entry(model->stem(), model->file));
  }
  return list;
}

json sdapi_latent_upscale_modes() { return json::array({{{"name", "Latent"}}}); }

json sdapi_scripts() {
  const json names = json::array({"controlnet"});
  return {{"txt2img", names}, {"img2img", names}};
}

json sdapi_script_info() {
  json list = json::array();
  for (const bool is_img2img : {false, true}) {
    list.push_back(
        {{"name", "controlnet"}, {"is_alwayson", true}, {"is_img2img", is_img2img}, {"args", json::array()}});
  }
  return list;
}

json sdapi_cmd_flags() {
  return {{"api", true},      {"nowebui", true},   {"listen", false},  {"share", false},      {"lowvram", false},
          {"medvram", false}, {"xformers", false}, {"no_half", false}, {"no_half_vae", false}};
}

json sdapi_memory(const MachineMemory& memory) {
  return {{"ram", {{"free", memory.free}, {"used", memory.total - memory.free}, {"total", memory.total}}},
          {"workers", {{"used", memory.used_by_workers}}},
          {"cuda", {{"error", "unavailable"}}}};
}

json controlnet_models(const ModelCatalog& models) {
  json list = json::array();
  for (const CatalogModel* model : models.of(ModelRole::controlnet)) list.push_back(model->title());
  return {{"model_list", std::move(list)}};
}

json controlnet_modules() {
  json list = json::array();
  json details = json::object();
  for (const ControlModule& module : control_modules()) {
    list.push_back(module.module);
    details[std::string(module.module)] = {{"model_free", module.module == "invert"}, {"sliders", json::array()}};
  }
  return {{"module_list", std::move(list)}, {"module_detail", std::move(details)}};
}

json controlnet_types(const ModelCatalog& models) {
  std::map<std::string, json> types;
  const json all_models = controlnet_models(models)["model_list"];
  json all_modules = json::array();
  for (const ControlModule& module : control_modules()) all_modules.push_back(module.module);
  const auto entry = [](json modules, json model_list, const json& module) {
    json with_none = json::array({"None"});
    with_none.insert(with_none.end(), model_list.begin(), model_list.end());
    const json first = model_list.empty() ? json("None") : model_list.front();
    return json{{"module_list", std::move(modules)},
                {"model_list", std::move(with_none)},
                {"default_option", module},
                {"default_model", first}};
  };
  types["All"] = entry(all_modules, all_models, "none");
  for (const ControlModule& module : control_modules()) {
    if (module.control_type == "All") continue;
    const std::string type(module.control_type);
    json fitting = json::array();
    for (const json& title : all_models) {
      const std::string name = to_lower(title.get_ref<const std::string&>());
      const bool fits = name.find(to_lower(type)) != std::string::npos || name.find("union") != std::string::npos;
      if (fits) fitting.push_back(title);
    }
    if (types.contains(type)) {
      types[type]["module_list"].push_back(module.module);
    } else {
      types[type] = entry(json::array({"none", module.module}), std::move(fitting), module.module);
    }
  }
  return {{"control_types", types}};
}

json controlnet_settings(const Limits& limits) { return {{"control_net_unit_count", limits.max_controlnets}}; }

json sdapi_options(const SdapiContext& context) {
  const SdapiOptions& mine = context.options;
  json options;
  const auto checkpoint = default_checkpoint(context);
  const CatalogModel* model = nullptr;
  if (checkpoint) {
    if (const auto found = context.models.find(ModelRole::checkpoint, *checkpoint)) model = *found;
  }
  options["sd_model_checkpoint"] = model != nullptr ? json(model->title()) : json(nullptr);
  options["sd_checkpoint_hash"] = model != nullptr ? model->sha256 : "";
  options["sd_vae"] = mine.vae;
  options["CLIP_stop_at_last_layers"] = mine.clip_stop_at_last_layers;
  options["sd_model_refiner"] = mine.refiner.empty() ? "None" : mine.refiner;
  options["samples_format"] = "png";
  options["samples_save"] = true;
  options["face_restoration_model"] = "None";
  options["img2img_color_correction"] = false;
  options["inpainting_mask_weight"] = 1.0;
  options["eta_noise_seed_delta"] = 0;
  options["live_previews_enable"] = true;
  options["enable_pnginfo"] = true;
  return options;
}

tl::expected<SdapiOptions, Refusal> changed_sdapi_options(const json& body, const SdapiContext& context) {
  SdapiDraft draft{.kind = SdapiKind::txt2img, .context = context};
  const TolerantReader in(body, "", draft.complaints);
  SdapiOptions options = context.options;
  std::string name;
  if (in.text("sd_model_checkpoint", name)) {
    options.checkpoint = is_none(name) ? "" : find_model(draft, in, "sd_model_checkpoint", ModelRole::checkpoint, name);
  }
  if (in.text("sd_vae", name)) {
    const bool is_word = is_none(name) || to_lower(name) == "automatic";
    options.vae = is_word ? name : find_model(draft, in, "sd_vae", ModelRole::vae, name);
  }
  if (in.text("sd_model_refiner", name)) {
    options.refiner = is_none(name) ? "" : find_model(draft, in, "sd_model_refiner", ModelRole::checkpoint, name);
  }
  in.whole("CLIP_stop_at_last_layers", options.clip_stop_at_last_layers, 1, kLargestClipStop);
  if (!draft.complaints.empty()) return tl::unexpected(refusal_of(draft));
  return options;
}

}  // namespace darkroom
