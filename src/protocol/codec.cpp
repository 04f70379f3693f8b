#include "protocol/codec.h"

#include <algorithm>
#include <array>
#include <concepts>
#include <type_traits>
#include <utility>

#include <fmt/ranges.h>

#include "base/json_reader.h"
#include "base/json_text.h"
#include "base/json_writer.h"
#include "base/overloaded.h"

namespace darkroom {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxId = 200;  // bytes of a request id
constexpr std::size_t kMaxName = 4096;
constexpr std::size_t kMaxElements = 100'000;  // of a list that a worker sends

enum class MessageType : std::uint8_t {
  inference_request,
  model_load_request,
  status_request,
  model_unload_request,
  model_list_request,
  cancel_request,
  shutdown_request,
};

constexpr auto enum_names(MessageType) {
  using enum MessageType;
  return std::to_array<EnumName<MessageType>>({{"inference_request", inference_request},
                                               {"model_load_request", model_load_request},
                                               {"status_request", status_request},
                                               {"model_unload_request", model_unload_request},
                                               {"model_list_request", model_list_request},
                                               {"cancel_request", cancel_request},
                                               {"shutdown_request", shutdown_request}});
}

enum class FeatureAction : std::uint8_t { list, load, unload };

constexpr auto enum_names(FeatureAction) {
  using enum FeatureAction;
  return std::to_array<EnumName<FeatureAction>>({{"list", list}, {"load", load}, {"unload", unload}});
}

// All that scheduler_manager can be asked.
enum class ListAction : std::uint8_t { list };

constexpr auto enum_names(ListAction) { return std::to_array<EnumName<ListAction>>({{"list", ListAction::list}}); }

// What upscaler_worker can be asked beside these.
constexpr std::string_view kUpscaleAction = "upscale";
// The keys of a generation that mean something for a picture that is only enlarged.
constexpr std::array<std::string_view, 6> kUpscaleKeys = {"worker_type", "action",   "init_image",
                                                          "output",      "metadata", "precision"};

// --- Fields of each struct, for both directions. ---

// Outside of the unnamed namespace: found by their arguments, also from kNested.
}  // namespace

template <class T, class U>
concept Of = std::same_as<std::remove_const_t<T>, U>;

// Reads or writes a nested struct.
constexpr auto kNested = [](auto& io, auto& value) {
  fields(io, value);
  return true;
};

template <class Io>
void fields(Io& io, Of<LoadModel> auto& load) {
  io.required("model_name", load.model, not_empty(), max_bytes(kMaxName));
  io.field("kind", load.role);
  io.field("dtype", load.precision);
}

template <class Io>
void fields(Io& io, Of<UnloadModel> auto& unload) {
  io.required("model_name", unload.model, not_empty(), max_bytes(kMaxName));
  io.field("kind", unload.role);
}

template <class Io>
void fields(Io& io, Of<ListModels> auto& list) {
  io.field("kind", list.role);
}

template <class Io>
void fields(Io& io, Of<CancelJob> auto& cancel) {
  io.required("request_id", cancel.target, not_empty(), max_bytes(kMaxId));
}

template <class Io>
void fields(Io& io, Of<Shutdown> auto& shutdown) {
  io.field("cancel", shutdown.cancel);
}

template <class Io>
void fields(Io&, Of<AskStatus> auto&) {}

template <class Io>
void fields(Io& io, Of<ListSchedulers> auto&) {
  if constexpr (Io::kReading) {
    ListAction action = ListAction::list;
    io.take("worker_type");
    io.field("action", action);
  } else {
    io.field("worker_type", WorkerType::scheduler_manager);
  }
}

template <class Io>
void fields(Io& io, Of<GeneratedImage> auto& image) {
  io.required("path", image.path);
  io.required("filename", image.filename);
  io.required("seed", image.seed);
  io.required("width", image.width);
  io.required("height", image.height);
  io.required("format", image.format);
  io.required("bytes", image.bytes);
}

template <class Io>
void fields(Io& io, Of<StageSeconds> auto& stage) {
  io.required("name", stage.name);
  io.required("seconds", stage.seconds);
}

template <class Io>
void fields(Io& io, Of<ModelInfo> auto& info) {
  io.required("base_model", info.base_model);
  io.required("refiner_model", info.refiner_model);
  io.required("loaded_loras", info.loaded_loras);
  io.required("device", info.device);
  io.required("memory_usage", info.memory_usage);
}

template <class Io>
void fields(Io& io, Of<ProcessingMetrics> auto& metrics) {
  io.required("total_time", metrics.total_time);
  io.required("inference_time", metrics.inference_time);
  io.required("device_name", metrics.device_name);
  io.required("memory_used", metrics.memory_used);
  io.required("memory_peak", metrics.memory_peak);
  io.field("memory_predicted", metrics.memory_predicted);
  io.object("model_info", [&](Io& inner) { fields(inner, metrics.model_info); });
  io.required("compute_type", metrics.compute_type);
  io.required("scheduler", metrics.scheduler);
  io.list("stages", metrics.stages, kMaxElements, kNested);
}

template <class Io>
void fields(Io& io, Of<Generated> auto& generated) {
  io.list("generated_images", generated.generated_images, kMaxElements, kNested);
  io.field("control_maps", generated.control_maps);
  io.object("processing_metrics", [&](Io& inner) { fields(inner, generated.processing_metrics); });
  io.field("tags", generated.tags);
}

template <class Io>
void fields(Io& io, Of<ModelLoaded> auto& loaded) {
  io.required("model_loaded", loaded.model_loaded);
}

template <class Io>
void fields(Io& io, Of<ModelUnloaded> auto& unloaded) {
  io.required("model_unloaded", unloaded.model_unloaded);
}

template <class Io>
void fields(Io& io, Of<ModelEntry> auto& model) {
  io.required("name", model.name);
  io.required("kind", model.kind);
  io.required("path", model.path);
  io.required("format", model.format);
  io.required("family", model.family);
  io.required("bytes", model.bytes);
  io.required("compute_types", model.compute_types);
  io.required("loaded", model.loaded);
  io.required("problem", model.problem);
}

template <class Io>
void fields(Io& io, Of<ModelList> auto& list) {
  io.list("models", list.models, kMaxElements, kNested);
}

template <class Io>
void fields(Io& io, Of<SchedulerList> auto& list) {
  io.required("schedulers", list.schedulers);
}

template <class Io>
void fields(Io& io, Of<LoadedModelStatus> auto& model) {
  io.required("path", model.path);
  io.required("kind", model.kind);
  io.required("bytes", model.bytes);
  io.required("last_used", model.last_used);
}

template <class Io>
void fields(Io& io, Of<Status> auto& status) {
  io.required("orchestrator_status", status.orchestrator_status);
  io.required("device", status.device);
  io.required("running", status.running);
  io.required("queued", status.queued);
  io.required("memory_used", status.memory_used);
  io.required("memory_peak", status.memory_peak);
  io.list("loaded_models", status.loaded_models, kMaxElements, kNested);
  // What the specification's status lists is the same for every worker of this build.
  if constexpr (Io::kReading) {
    io.take("workers");
    io.take("message_handlers");
  } else {
    io.object("workers", [&](Io& inner) {
      for (const auto& worker : enum_names(WorkerType{})) {
        inner.object(worker.name, [](Io& one) { one.field("status", std::string("available")); });
      }
    });
    io.field("message_handlers", all_names<MessageType>());
  }
}

template <class Io>
void fields(Io& io, Of<JobCancelled> auto& job) {
  io.required("cancelled", job.cancelled);
}

template <class Io>
void fields(Io& io, Of<ShutDown> auto& shut_down) {
  io.required("shut_down", shut_down.shut_down);
}

template <class Io>
void fields(Io&, Of<std::monostate> auto&) {}

template <class Io>
void fields(Io& io, Of<Ready> auto& ready) {
  io.required("version", ready.version);
  io.required("device", ready.device);
  io.required("pid", ready.pid);
  io.required("compute_type", ready.compute_type);
}

template <class Io>
void fields(Io& io, Of<Progress> auto& progress) {
  io.required("stage", progress.stage);
  io.required("step", progress.step);
  io.required("steps", progress.steps);
  io.required("seconds_left", progress.seconds_left);
  io.field("preview", progress.preview);
}

template <class Io>
void fields(Io& io, Of<Log> auto& log) {
  io.required("level", log.level);
  io.required("message", log.message);
}

namespace {

// --- Which alternative of a variant a message is. ---

// A key that only this alternative of ResponseData has, in the variant's order.
constexpr std::array<std::string_view, std::variant_size_v<ResponseData>> kDataKeys = {
    "",           "generated_images",    "model_loaded", "model_unloaded", "models",
    "schedulers", "orchestrator_status", "cancelled",    "shut_down"};

constexpr std::array<std::string_view, std::variant_size_v<EventBody>> kEventTypes = {"ready", "progress", "log"};

// Makes the alternative with this index the active one.
template <class Variant>
void emplace_index(Variant& variant, std::size_t index) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((I == index ? static_cast<void>(variant.template emplace<I>()) : static_cast<void>(0)), ...);
  }
  (std::make_index_sequence<std::variant_size_v<Variant>>());
}

void read_variant(JsonReader& in, auto& variant) {
  std::visit([&](auto& alternative) { fields(in, alternative); }, variant);
}

json write_variant(const auto& variant) {
  return write_json(
      [&](JsonWriter& out) { std::visit([&](auto& alternative) { fields(out, alternative); }, variant); });
}

// --- Requests ---

Refusal invalid(std::vector<Complaint> complaints, std::string_view prefix = "") {
  for (Complaint& complaint : complaints) complaint.pointer.insert(0, prefix);
  Error error = as_error(complaints);
  error.message.insert(0, "Validation failed: ");
  return {std::move(error), std::move(complaints)};
}

tl::unexpected<Response> refuse(std::string request_id, Refusal refusal) {
  Response response;
  response.request_id = std::move(request_id);
  response.refusal = std::move(refusal);
  return tl::unexpected(std::move(response));
}

using Body = tl::expected<RequestBody, Refusal>;

template <class T>
Body decode_simple(const json& data) {
  T body;
  std::vector<Complaint> complaints = read_json(data, [&](JsonReader& in) { fields(in, body); });
  if (!complaints.empty()) return tl::unexpected(invalid(std::move(complaints), "/data"));
  return body;
}

// What a feature worker can be asked: {"action": "list" | "load" | "unload", "model_name", "dtype"}.
Body decode_feature(const json& data, ModelRole role) {
  FeatureAction action = FeatureAction::list;
  std::string model;
  Precision precision = Precision::automatic;
  std::vector<Complaint> complaints = read_json(data, [&](JsonReader& in) {
    in.take("worker_type");
    in.field("action", action);
    in.field("model_name", model, not_empty(), max_bytes(kMaxName));
    in.field("dtype", precision);
    if (action != FeatureAction::list && !in.has("model_name")) in.complain("model_name", "is required");
    if (action == FeatureAction::list && in.has("model_name")) in.complain("model_name", "is for load and unload");
    if (action != FeatureAction::load && in.has("dtype")) in.complain("dtype", "is for load");
  });
  if (!complaints.empty()) return tl::unexpected(invalid(std::move(complaints), "/data"));
  switch (action) {
    case FeatureAction::list:
      return ListModels{role};
    case FeatureAction::load:
      return LoadModel{std::move(model), role, precision};
    case FeatureAction::unload:
      return UnloadModel{std::move(model), role};
  }
  DR_ASSERT(false);
}

bool has(const json& object, std::string_view key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found != object.end() && !found->is_null();
}

// {"action": "upscale", "init_image", "output": {"upscale"}, "precision", "metadata"}: a generation that only enlarges
// its picture.
Body decode_upscale(const json& data, const Limits& limits) {
  std::vector<Complaint> complaints;
  json whole = data;
  for (const auto& [key, value] : data.items()) {
    if (std::ranges::find(kUpscaleKeys, key) != kUpscaleKeys.end()) continue;
    complaints.push_back({"/" + key, "does not belong to an upscale"});
    whole.erase(key);
  }
  if (!has(data, "init_image")) complaints.push_back({"/init_image", "is required"});
  if (!has(data, "output") || !has(data["output"], "upscale")) complaints.push_back({"/output/upscale", "is required"});

  // What a generation needs beside these, so that nothing is complained about but what was said.
  whole.erase("action");
  whole["prompt"] = "-";
  whole["model_name"] = "-";
  whole["hyperparameters"] = {{"strength", 0}};
  auto request = decode_generation(whole, limits);
  if (!request) complaints.insert(complaints.end(), request.error().begin(), request.error().end());
  if (request && complaints.empty() && !request->spec.upscale) {
    complaints.push_back({"/output/upscale/enabled", "is false: there is nothing to do"});
  }
  if (!complaints.empty()) return tl::unexpected(invalid(std::move(complaints), "/data"));
  request->spec.prompt.clear();
  request->spec.model.clear();
  return std::move(*request);
}

Body decode_inference(const json& data, const Limits& limits) {
  WorkerType worker = WorkerType::enhanced_sdxl_worker;
  if (data.is_object() && data.contains("worker_type")) {
    const json& name = data["worker_type"];
    const std::optional<WorkerType> known =
        name.is_string() ? value_of<WorkerType>(name.get<std::string>()) : std::nullopt;
    if (!known) {
      const std::vector<std::string> names = all_names<WorkerType>();
      const std::string shown = name.is_string() ? name.get<std::string>().substr(0, kMaxId) : expected("a text", name);
      return tl::unexpected(
          Refusal{{ErrorCode::unsupported,
                   fmt::format("Enhanced worker not available: {}; there are {}", shown, fmt::join(names, ", "))},
                  {}});
    }
    worker = *known;
  }
  switch (worker) {
    case WorkerType::enhanced_sdxl_worker:
    case WorkerType::sdxl_worker:
      break;
    case WorkerType::lora_worker:
      return decode_feature(data, ModelRole::lora);
    case WorkerType::controlnet_worker:
      return decode_feature(data, ModelRole::controlnet);
    case WorkerType::upscaler_worker:
      if (has(data, "action") && data["action"] == kUpscaleAction) return decode_upscale(data, limits);
      return decode_feature(data, ModelRole::upscaler);
    case WorkerType::vae_manager:
      return decode_feature(data, ModelRole::vae);
    case WorkerType::scheduler_manager:
      return decode_simple<ListSchedulers>(data);
  }
  auto request = decode_generation(data, limits);
  if (!request) return tl::unexpected(invalid(std::move(request.error()), "/data"));
  return std::move(*request);
}

Body decode_body(MessageType type, const json& data, const Limits& limits) {
  switch (type) {
    case MessageType::inference_request:
      return decode_inference(data, limits);
    case MessageType::model_load_request:
      return decode_simple<LoadModel>(data);
    case MessageType::model_unload_request:
      return decode_simple<UnloadModel>(data);
    case MessageType::model_list_request:
      return decode_simple<ListModels>(data);
    case MessageType::status_request:
      return decode_simple<AskStatus>(data);
    case MessageType::cancel_request:
      return decode_simple<CancelJob>(data);
    case MessageType::shutdown_request:
      return decode_simple<Shutdown>(data);
  }
  DR_ASSERT(false);
}

// --- Responses ---

// The specification's success and error, with our code and the single complaints.
template <class Io>
void refusal_fields(Io& io, auto& response) {
  bool success = !response.refusal.has_value();
  io.required("success", success);
  if constexpr (Io::kReading) {
    if (!success) response.refusal.emplace();
  }
  if (success) {
    if constexpr (Io::kReading) {
      io.take("error");
    } else {
      io.field("error", json());
    }
    return;
  }
  io.required("error", response.refusal->error.message);
  io.field("error_code", response.refusal->error.code);
  io.list("complaints", response.refusal->complaints, kMaxElements, [](Io& inner, auto& complaint) {
    inner.required("pointer", complaint.pointer);
    inner.required("message", complaint.message);
    return true;
  });
}

template <class Io>
void envelope_fields(Io& io, auto& response) {
  io.required("request_id", response.request_id);
  refusal_fields(io, response);
  io.required("warnings", response.warnings);
  io.required("execution_time", response.execution_time);
  io.required("timestamp", response.timestamp);
}

}  // namespace

tl::expected<Request, Response> decode_request(std::string_view line, const Limits& limits) {
  Result<json> message = parse_json(line);
  if (!message) return refuse("unknown", {message.error(), {}});

  Request request{.request_id = "unknown", .body = AskStatus{}};
  std::string type;
  json data = json::object();
  std::vector<Complaint> complaints = read_json(*message, [&](JsonReader& in) {
    std::string id;
    if (in.field("request_id", id, not_empty(), max_bytes(kMaxId)) && !id.empty() && id.size() <= kMaxId) {
      request.request_id = std::move(id);
    }
    in.required("message_type", type, max_bytes(kMaxId));
    if (const json* value = in.take("data")) data = *value;
  });
  if (!complaints.empty()) return refuse(request.request_id, invalid(std::move(complaints)));
  const std::optional<MessageType> known = value_of<MessageType>(type);
  if (!known) {
    return refuse(request.request_id,
                  {{ErrorCode::unsupported,
                    fmt::format("Unknown message type: {}{}", type, did_you_mean(type, all_names<MessageType>()))},
                   {}});
  }
  Body body = decode_body(*known, data, limits);
  if (!body) return refuse(request.request_id, std::move(body.error()));
  request.body = std::move(*body);
  return request;
}

std::string encode(const Request& request) {
  const auto simple = [&](MessageType type, const auto& body) {
    return std::pair{type, write_json([&](JsonWriter& out) { fields(out, body); })};
  };
  const auto [type, data] =
      std::visit(Overloaded{
                     [](const GenerationRequest& body) {
                       return std::pair{MessageType::inference_request, encode_generation(body.spec, body.job)};
                     },
                     [&](const ListSchedulers& body) { return simple(MessageType::inference_request, body); },
                     [&](const LoadModel& body) { return simple(MessageType::model_load_request, body); },
                     [&](const UnloadModel& body) { return simple(MessageType::model_unload_request, body); },
                     [&](const ListModels& body) { return simple(MessageType::model_list_request, body); },
                     [&](const AskStatus& body) { return simple(MessageType::status_request, body); },
                     [&](const CancelJob& body) { return simple(MessageType::cancel_request, body); },
                     [&](const Shutdown& body) { return simple(MessageType::shutdown_request, body); },
                 },
                 request.body);
  return json{{"message_type", name_of(type)}, {"request_id", request.request_id}, {"data", data}}.dump();
}

std::string encode(const Response& response) {
  json message = write_json([&](JsonWriter& out) { envelope_fields(out, response); });
  const bool empty = std::holds_alternative<std::monostate>(response.data);
  message["data"] = empty ? json() : write_variant(response.data);
  return message.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string encode(const Event& event) {
  const json message = {{"message_type", kEventTypes[event.body.index()]},
                        {"request_id", event.request_id},
                        {"data", write_variant(event.body)}};
  return message.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<WorkerMessage> decode_worker_message(std::string_view line) {
  const Result<json> message = parse_json(line);
  if (!message) return tl::unexpected(message.error());

  Event event;
  Response response;
  bool is_event = false;
  const std::vector<Complaint> complaints = read_json(*message, [&](JsonReader& in) {
    std::string type;
    is_event = in.field("message_type", type);
    if (!is_event) {
      envelope_fields(in, response);
      if (const json* data = in.take("data"); data != nullptr && data->is_object()) {
        for (std::size_t i = 1; i < kDataKeys.size(); ++i) {
          if (data->contains(kDataKeys[i])) emplace_index(response.data, i);
        }
        in.object("data", [&](JsonReader& inner) { read_variant(inner, response.data); });
      }
      return;
    }
    const auto* const known = std::find(kEventTypes.begin(), kEventTypes.end(), type);
    if (known == kEventTypes.end())
      return in.complain("message_type", fmt::format("is \"{}\", which is no event", type));
    emplace_index(event.body, static_cast<std::size_t>(known - kEventTypes.begin()));
    in.required("request_id", event.request_id);
    in.object("data", [&](JsonReader& inner) { read_variant(inner, event.body); });
  });
  if (!complaints.empty()) return tl::unexpected(as_error(complaints));
  if (is_event) return event;
  return response;
}

}  // namespace darkroom
