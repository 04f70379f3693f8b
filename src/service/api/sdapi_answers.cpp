#include "service/api/sdapi_answers.h"

#include "base/json_writer.h"
#include "base/text.h"
#include "metadata/infotext.h"
#include "metadata/picture_file.h"
#include "service/api/picture_input.h"
#include "service/api/tolerant_reader.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr int kSdxlClipStop = 2;  // of a model's own: see read_settings in sdapi_request.cpp

std::span<const std::byte> as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string infotext_of(const SdapiPicture& picture) {
  const auto text = read_parameters(as_bytes(picture.png));
  return text && *text ? **text : "";
}

json info_of(const SdapiRequest& request, const std::vector<SdapiPicture>& pictures, const ModelCatalog& models,
             const std::string& job_timestamp) {
  const GenerationSpec& spec = request.jobs.front().spec;
  const Variation variation = spec.variation.value_or(Variation{.seed = spec.seed});
  json seeds = json::array();
  json subseeds = json::array();
  json infotexts = json::array();
  json prompts = json::array();
  json negative_prompts = json::array();
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    seeds.push_back(pictures[i].seed);
    subseeds.push_back(variation.seed + i);
    infotexts.push_back(infotext_of(pictures[i]));
    prompts.push_back(request.prompt);
    negative_prompts.push_back(request.negative_prompt);
  }
  const auto model = models.find(ModelRole::checkpoint, spec.model);
  const bool has_strength = spec.init_image || spec.hires;
  return {{"prompt", request.prompt},
          {"all_prompts", std::move(prompts)},
          {"negative_prompt", request.negative_prompt},
          {"all_negative_prompts", std::move(negative_prompts)},
          {"seed", pictures.empty() ? spec.seed : pictures.front().seed},
          {"all_seeds", std::move(seeds)},
          {"subseed", variation.seed},
          {"all_subseeds", std::move(subseeds)},
          {"subseed_strength", write_value(variation.strength)},
          {"width", spec.width},
          {"height", spec.height},
          {"sampler_name", request.sampler_name},
          {"scheduler", request.schedule},
          {"cfg_scale", write_value(spec.guidance_scale)},
          {"steps", spec.steps},
          {"batch_size", pictures.size()},
          {"restore_faces", false},
          {"face_restoration_model", nullptr},
          {"sd_model_name", model ? (*model)->stem() : spec.model},
          {"sd_model_hash", model ? (*model)->short_hash() : ""},
          {"sd_vae_name", spec.vae.empty() ? json(nullptr) : json(spec.vae)},
          {"sd_vae_hash", nullptr},
          {"seed_resize_from_w", -1},
          {"seed_resize_from_h", -1},
          {"denoising_strength",
           has_strength ? json(write_value(spec.hires ? spec.hires->strength : spec.strength)) : json(nullptr)},
          {"extra_generation_params", json::object()},
          {"index_of_first_image", 0},
          {"infotexts", std::move(infotexts)},
          {"styles", json::array()},
          {"job_timestamp", job_timestamp},
          {"clip_skip", spec.clip_skip == 0 ? 1 : spec.clip_skip + kSdxlClipStop},
          {"is_using_inpainting_conditioning", false},
          {"version", "darkroom " DARKROOM_VERSION}};
}

}  // namespace

json sdapi_answer(const SdapiRequest& request, const std::vector<SdapiPicture>& pictures, const ModelCatalog& models,
                  const std::vector<std::string>& warnings, const std::string& job_timestamp) {
  DR_ASSERT(!request.jobs.empty());
  json images = json::array();
  if (request.send_images) {
    for (const SdapiPicture& picture : pictures) images.push_back(encode_base64(picture.png));
  }
  return {{"images", std::move(images)},
          {"parameters", request.echo},
          {"info", info_of(request, pictures, models, job_timestamp).dump()},
          {"warnings", warnings}};
}

json sdapi_extras_answer(SdapiExtrasKind kind, const std::vector<std::string>& pictures,
                         const std::vector<std::string>& warnings) {
  json answer = {{"html_info", ""}, {"warnings", warnings}};
  json images = json::array();
  for (const std::string& picture : pictures) images.push_back(encode_base64(picture));
  if (kind == SdapiExtrasKind::single) {
    answer["image"] = images.empty() ? json("") : images.front();
  } else {
    answer["images"] = std::move(images);
  }
  return answer;
}

json sdapi_detect_answer(const std::vector<std::string>& pictures) {
  json images = json::array();
  for (const std::string& picture : pictures) images.push_back(encode_base64(picture));
  return {{"images", std::move(images)}, {"info", "Success"}};
}

json sdapi_progress_answer(const std::optional<SdapiProgress>& progress, PreviewUse use) {
  const SdapiProgress now = progress.value_or(SdapiProgress{.job_count = 0});
  double share = 0.0;
  if (progress && now.job_count > 0) {
    const double of_one = now.steps > 0 ? static_cast<double>(now.step) / now.steps : 0.0;
    share = (now.job_no + of_one) / now.job_count;
  }
  const bool has_preview = use == PreviewUse::show && !now.preview.empty();
  return {{"progress", share},
          {"eta_relative", now.seconds_left},
          {"state",
           {{"skipped", false},
            {"interrupted", now.interrupted},
            {"stopping_generation", now.interrupted},
            {"job", now.job},
            {"job_count", now.job_count},
            {"job_timestamp", now.job_timestamp},
            {"job_no", now.job_no},
            {"sampling_step", now.step},
            {"sampling_steps", now.steps}}},
          {"current_image", has_preview ? json(encode_base64(now.preview)) : json(nullptr)},
          {"textinfo", progress ? json(now.stage) : json(nullptr)}};
}

tl::expected<json, Refusal> sdapi_png_info(const json& body, const Limits& limits) {
  std::vector<Complaint> complaints;
  const TolerantReader in(body, "", complaints);
  const json nothing = {{"info", ""}, {"items", json::object()}, {"parameters", json::object()}};
  std::string encoded;
  in.text("image", encoded);
  if (complaints.empty() && encoded.empty()) return nothing;
  std::string text;
  if (complaints.empty()) {
    const auto read = decode_picture(encoded, limits)
                          .and_then([](const ImageSource& picture) { return read_parameters(as_bytes(picture.bytes)); })
                          .map([&](const std::optional<std::string>& found) { text = found.value_or(""); });
    if (!read) in.complain("image", read.error().message);
  }
  if (!complaints.empty()) {
    Error error = as_error(complaints);
    return tl::unexpected(Refusal{std::move(error), std::move(complaints)});
  }
  if (text.empty()) return nothing;
  const auto parsed = parse_infotext(text);
  json parameters = json::object();
  if (parsed) {
    parameters = {{"Prompt", parsed->prompt}, {"Negative prompt", parsed->negative_prompt}};
    for (const auto& [key, value] : parsed->settings) {
      parameters[key] = value;
      // compat(webui): a size comes apart.
      const std::size_t x = value.find('x');
      if (key == "Size" && x != std::string::npos) {
        parameters["Size-1"] = value.substr(0, x);
        parameters["Size-2"] = value.substr(x + 1);
      }
    }
  }
  return json{{"info", text}, {"items", {{"parameters", text}}}, {"parameters", std::move(parameters)}};
}

json sdapi_error(const Refusal& refusal) {
  json errors = json::array();
  for (const Complaint& complaint : refusal.complaints) {
    errors.push_back({{"pointer", complaint.pointer}, {"message", complaint.message}});
  }
  return {{"error", name_of(refusal.error.code)},
          {"detail", refusal.error.message},
          {"body", ""},
          {"errors", std::move(errors)},
          {"message", refusal.error.message}};
}

}  // namespace darkroom
