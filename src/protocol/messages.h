// The conversation between a service (or the command line) and a worker: one JSON message a line, requests down,
// responses and events up. Shapes are the specification's, extended; api/*.json writes them out.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <tl/expected.hpp>

#include "base/enum_names.h"
#include "base/error.h"
#include "base/json_reader.h"
#include "spec/generation_codec.h"
#include "spec/limits.h"
#include "spec/model_role.h"

namespace darkroom {

// --- Requests: {"message_type", "request_id", "data"} ---

// Who answers an inference_request. The first two generate; each of the others answers for one kind of thing.
enum class WorkerType : std::uint8_t {
  enhanced_sdxl_worker,
  sdxl_worker,  // the same worker under its old name
  lora_worker,
  controlnet_worker,
  scheduler_manager,
  upscaler_worker,
  vae_manager,
};

constexpr auto enum_names(WorkerType) {
  using enum WorkerType;
  return std::to_array<EnumName<WorkerType>>({{"enhanced_sdxl_worker", enhanced_sdxl_worker},
                                              {"sdxl_worker", sdxl_worker},
                                              {"lora_worker", lora_worker},
                                              {"controlnet_worker", controlnet_worker},
                                              {"scheduler_manager", scheduler_manager},
                                              {"upscaler_worker", upscaler_worker},
                                              {"vae_manager", vae_manager}});
}

// model_load_request; or inference_request to a feature worker with action "load".
struct LoadModel {
  std::string model;
  ModelRole role = ModelRole::checkpoint;
  Precision precision = Precision::automatic;
};

// model_unload_request; or action "unload".
struct UnloadModel {
  std::string model;
  ModelRole role = ModelRole::checkpoint;
};

// model_list_request; or action "list".
struct ListModels {
  std::optional<ModelRole> role;  // absent: all
};

// inference_request to scheduler_manager.
struct ListSchedulers {};

// status_request.
struct AskStatus {};

// cancel_request: the job with this request id, queued or running.
struct CancelJob {
  std::string target;
};

// shutdown_request: what was accepted is finished first, or, if asked, cancelled; then the worker exits.
struct Shutdown {
  bool cancel = false;
};

using RequestBody =
    std::variant<GenerationRequest, LoadModel, UnloadModel, ListModels, ListSchedulers, AskStatus, CancelJob, Shutdown>;

struct Request {
  std::string request_id;
  RequestBody body;
};

// --- Responses: {"request_id", "success", "data", "error", "warnings", "execution_time", "timestamp"} ---

struct GeneratedImage {
  std::string path;  // absolute
  std::string filename;
  std::uint64_t seed = 0;
  int width = 0;  // pixels
  int height = 0;
  ImageFormat format = ImageFormat::png;
  std::uint64_t bytes = 0;  // of the file
};

struct StageSeconds {
  std::string name;
  double seconds = 0.0;
};

// What is loaded; the specification's model_info.
struct ModelInfo {
  std::string base_model;
  std::string refiner_model;  // "": none
  std::vector<std::string> loaded_loras;
  std::string device;
  std::uint64_t memory_usage = 0;  // bytes
};

struct ProcessingMetrics {
  double total_time = 0.0;      // seconds
  double inference_time = 0.0;  // seconds in the engine
  std::string device_name;
  std::uint64_t memory_used = 0;       // bytes, resident now
  std::uint64_t memory_peak = 0;       // bytes, since the worker started
  std::uint64_t memory_predicted = 0;  // bytes that the job was thought to need, before it started
  ModelInfo model_info;
  std::string compute_type;
  std::string scheduler;
  std::vector<StageSeconds> stages;
};

struct Generated {
  std::vector<GeneratedImage> generated_images;
  std::vector<std::string> control_maps;  // paths, where they were asked for
  ProcessingMetrics processing_metrics;
  std::vector<std::string> tags;
};

struct ModelLoaded {
  std::string model_loaded;
};

struct ModelUnloaded {
  std::string model_unloaded;
};

struct ModelEntry {
  std::string name;
  ModelRole kind = ModelRole::checkpoint;
  std::string path;
  std::string format;  // "safetensors", "pickle", "diffusers_folder", "peft_folder"
  std::string family;  // "Stable Diffusion XL", …
  std::uint64_t bytes = 0;
  std::vector<std::string> compute_types;  // element types that the file holds
  bool loaded = false;
  std::string problem;  // why it cannot be used; "": it can
};

struct ModelList {
  std::vector<ModelEntry> models;
};

struct SchedulerList {
  std::vector<std::string> schedulers;
};

struct LoadedModelStatus {
  std::string path;
  std::string kind;
  std::uint64_t bytes = 0;
  double last_used = 0.0;  // seconds since 1970
};

struct Status {
  std::string orchestrator_status;  // "running" or "draining"
  std::string device;
  std::string running;              // request id; "": idle
  std::vector<std::string> queued;  // request ids
  std::uint64_t memory_used = 0;    // bytes
  std::uint64_t memory_peak = 0;
  std::vector<LoadedModelStatus> loaded_models;
};

struct JobCancelled {
  std::string cancelled;  // request id
};

struct ShutDown {
  bool shut_down = true;
};

using ResponseData = std::variant<std::monostate, Generated, ModelLoaded, ModelUnloaded, ModelList, SchedulerList,
                                  Status, JobCancelled, ShutDown>;

// Why a request failed.
struct Refusal {
  Error error;                        // all of it in one message
  std::vector<Complaint> complaints;  // of an invalid request: each mistake, with its pointer into the message
};

struct Response {
  std::string request_id = "unknown";
  ResponseData data;
  std::optional<Refusal> refusal;  // absent: success
  std::vector<std::string> warnings;
  double execution_time = 0.0;  // seconds
  double timestamp = 0.0;       // seconds since 1970
};

// --- Events: {"message_type", "request_id", "data"}, unasked ---

// The first line of a worker.
struct Ready {
  std::string version;
  std::string device;
  int pid = 0;
  std::string compute_type;  // that the precision `auto` means on this machine: "float32" or "bfloat16"
};

struct Progress {
  std::string stage;          // "load", "encode", "denoise", "decode", …
  int step = 0;               // finished ones
  int steps = 0;              // 0 outside of denoising
  double seconds_left = 0.0;  // of denoising, as far as known
  std::string preview;        // a data: URI; empty: none now
};

enum class LogLevel : std::uint8_t { info, warning, error };

constexpr auto enum_names(LogLevel) {
  using enum LogLevel;
  return std::to_array<EnumName<LogLevel>>({{"info", info}, {"warning", warning}, {"error", error}});
}

struct Log {
  LogLevel level = LogLevel::info;
  std::string message;
};

using EventBody = std::variant<Ready, Progress, Log>;

struct Event {
  std::string request_id;  // "": of no request
  EventBody body;
};

}  // namespace darkroom
