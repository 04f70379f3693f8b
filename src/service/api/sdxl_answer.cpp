#include "service/api/sdxl_answer.h"

#include "base/json_writer.h"
#include "service/api/sdxl_request.h"

namespace darkroom {
namespace {

using nlohmann::json;

json metrics_of(const ProcessingMetrics& metrics) {
  const ModelInfo& info = metrics.model_info;
  json stages = json::array();
  for (const StageSeconds& stage : metrics.stages) stages.push_back({{"name", stage.name}, {"seconds", stage.seconds}});
  return {{"totalTime", metrics.total_time},
          {"inferenceTime", metrics.inference_time},
          {"deviceName", metrics.device_name},
          {"memoryUsed", metrics.memory_used},
          {"memoryPeak", metrics.memory_peak},
          {"computeType", metrics.compute_type},
          {"scheduler", metrics.scheduler},
          {"stages", std::move(stages)},
          {"modelInfo",
           {{"baseModel", info.base_model},
            {"refinerModel", info.refiner_model.empty() ? json(nullptr) : json(info.refiner_model)},
            {"loadedLoras", info.loaded_loras},
            {"device", info.device},
            {"memoryUsage", info.memory_usage}}}};
}

json picture_of(const SdxlPicture& picture) {
  json out = {{"filename", picture.image.filename},
              {"seed", picture.image.seed},
              {"width", picture.image.width},
              {"height", picture.image.height},
              {"format", name_of(picture.image.format)},
              {"bytes", picture.image.bytes}};
  if (!picture.url.empty()) out["url"] = picture.url;
  if (!picture.base64.empty()) out["base64"] = picture.base64;
  return out;
}

json answer(const std::string& request_id, double timestamp) {
  return {{"requestId", request_id},   {"success", false},     {"data", nullptr},       {"error", nullptr},
          {"warnings", json::array()}, {"executionTime", 0.0}, {"timestamp", timestamp}};
}

json complaints_of(const std::vector<Complaint>& complaints) {
  json list = json::array();
  for (const Complaint& complaint : complaints) {
    list.push_back({{"pointer", complaint.pointer}, {"message", complaint.message}});
  }
  return list;
}

}  // namespace

json sdxl_answer(const SdxlOutcome& outcome) {
  json out = answer(outcome.request_id, outcome.timestamp);
  json pictures = json::array();
  for (const SdxlPicture& picture : outcome.pictures) pictures.push_back(picture_of(picture));
  out["success"] = true;
  out["data"] = {{"generatedImages", std::move(pictures)},
                 {"processingMetrics", metrics_of(outcome.metrics)},
                 {"tags", outcome.tags}};
  out["warnings"] = outcome.warnings;
  out["executionTime"] = outcome.execution_time;
  return out;
}

json sdxl_validation_failure(const std::string& request_id, const std::vector<Complaint>& complaints,
                             double timestamp) {
  json out = answer(request_id, timestamp);
  std::string text;
  for (const Complaint& complaint : complaints) {
    if (!text.empty()) text += ", ";
    // The specification's own sentences name their field.
    const bool is_sentence = !complaint.message.empty() && complaint.message[0] >= 'A' && complaint.message[0] <= 'Z';
    text += is_sentence || complaint.pointer.empty() ? complaint.message
                                                     : fmt::format("{} {}", complaint.pointer, complaint.message);
  }
  out["error"] = "Request validation failed: " + text;
  out["errorCode"] = name_of(ErrorCode::invalid_argument);
  out["complaints"] = complaints_of(complaints);
  return out;
}

json sdxl_failure(const std::string& request_id, const Error& error, const std::vector<std::string>& warnings,
                  double timestamp) {
  json out = answer(request_id, timestamp);
  out["error"] = "Processing failed: " + error.message;
  out["errorCode"] = name_of(error.code);
  out["warnings"] = warnings;
  return out;
}

json sdxl_validate_answer(const json& body, const Limits& limits) {
  const auto decoded = decode_sdxl_request(body, limits);
  if (!decoded) {
    json errors = json::array();
    for (const Complaint& complaint : decoded.error()) errors.push_back(complaint.message);
    return {{"valid", false},
            {"errors", errors},
            {"complaints", complaints_of(decoded.error())},
            {"warnings", json::array()}};
  }
  const GenerationSpec& spec = decoded->spec;
  return {{"valid", true},
          {"errors", json::array()},
          {"complaints", json::array()},
          {"warnings", decoded->warnings},
          {"workerType", name_of(worker_type_for(*read_sdxl_request(body)))},
          {"scheduler", spec.scheduler.name},
          {"width", spec.width},
          {"height", spec.height},
          {"steps", spec.steps},
          {"guidanceScale", write_value(spec.guidance_scale)},
          {"batchSize", spec.batch_size},
          {"tags", decoded->job.tags}};
}

}  // namespace darkroom
