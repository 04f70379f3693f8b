#include "service/api/openai_answers.h"

#include "base/text.h"

namespace darkroom {
namespace {

using nlohmann::json;

// Nothing is counted; SDKs have the field as required.
json no_usage() {
  return {{"total_tokens", 0},
          {"input_tokens", 0},
          {"output_tokens", 0},
          {"input_tokens_details", {{"text_tokens", 0}, {"image_tokens", 0}}}};
}

OpenaiEvent event(const OpenaiRequest& request, std::string_view what, std::string_view format, std::string_view file,
                  std::int64_t created) {
  const char* prefix = request.kind == OpenaiKind::generations ? "image_generation" : "image_edit";
  std::string name = fmt::format("{}.{}", prefix, what);
  json data = {{"type", name},           {"b64_json", encode_base64(file)}, {"created_at", created},
               {"size", request.size},   {"quality", request.quality},      {"background", "opaque"},
               {"output_format", format}};
  return {std::move(name), std::move(data)};
}

json model_entry(const CatalogModel& model, std::int64_t created) {
  return {{"id", model.name}, {"object", "model"}, {"created", created}, {"owned_by", "darkroom"}};
}

std::string_view type_of(int status) {
  if (status == 401) return "authentication_error";
  if (status == 429) return "rate_limit_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

json error_object(const Refusal& refusal, int status) {
  const bool names_one = !refusal.complaints.empty() && refusal.complaints.front().pointer.size() > 1;
  const std::string param = names_one ? refusal.complaints.front().pointer.substr(1) : "";
  const bool no_model = refusal.error.code == ErrorCode::not_found && param == "model";
  return {{"message", refusal.error.message},
          {"type", type_of(status)},
          {"param", param.empty() ? json(nullptr) : json(param)},
          {"code", no_model ? std::string_view("model_not_found") : name_of(refusal.error.code)}};
}

}  // namespace

json openai_answer(const OpenaiRequest& request, const std::vector<OpenaiPicture>& pictures, std::int64_t created) {
  json data = json::array();
  for (const OpenaiPicture& picture : pictures) {
    json one = {{"revised_prompt", request.prompt}};
    if (request.as_url) {
      one["url"] = picture.url;
    } else {
      one["b64_json"] = encode_base64(picture.file);
    }
    data.push_back(std::move(one));
  }
  return {{"created", created},   {"data", std::move(data)},         {"background", "opaque"},
          {"size", request.size}, {"output_format", request.format}, {"quality", request.quality},
          {"usage", no_usage()}};
}

OpenaiEvent openai_partial_image(const OpenaiRequest& request, std::string_view preview, int index,
                                 std::int64_t created) {
  OpenaiEvent partial = event(request, "partial_image", "jpeg", preview, created);
  partial.data["partial_image_index"] = index;
  return partial;
}

OpenaiEvent openai_completed(const OpenaiRequest& request, std::string_view file, std::int64_t created) {
  OpenaiEvent completed = event(request, "completed", request.format, file, created);
  completed.data["usage"] = no_usage();
  return completed;
}

OpenaiEvent openai_stream_error(const Refusal& refusal, int status) {
  return {"error", {{"type", "error"}, {"error", error_object(refusal, status)}}};
}

json openai_models(const ModelCatalog& models, std::int64_t created) {
  json data = json::array();
  for (const CatalogModel* model : models.of(ModelRole::checkpoint)) data.push_back(model_entry(*model, created));
  return {{"object", "list"}, {"data", std::move(data)}};
}

tl::expected<json, Refusal> openai_model(const ModelCatalog& models, std::string_view id, std::int64_t created) {
  const auto found = models.find(ModelRole::checkpoint, id);
  if (!found) return tl::unexpected(Refusal{found.error(), {{"/model", found.error().message}}});
  return model_entry(**found, created);
}

json openai_error(const Refusal& refusal, int status) { return {{"error", error_object(refusal, status)}}; }

}  // namespace darkroom
