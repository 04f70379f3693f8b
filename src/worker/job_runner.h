// Does one job after another and turns whatever comes of it into the response: the one place where the engine's
// failures are caught.
#pragma once

#include <string>
#include <variant>

#include "config/config.h"
#include "engine/pipeline/engine.h"
#include "protocol/messages.h"
#include "worker/artifacts.h"
#include "worker/model_directories.h"

namespace darkroom {

// What needs the engine to itself.
using Job = std::variant<GenerationRequest, LoadModel, UnloadModel>;

class JobRunner {
 public:
  JobRunner(engine::Engine& engine, const ModelDirectories& models, const OutputDirectory& outputs,
            const Config& config)
      : engine_(engine),
        models_(models),
        outputs_(outputs),
        limits_(config.limits),
        config_(config.worker),
        hashes_(config.models.hashes) {}

  Response run(const std::string& request_id, const Job& job, engine::ProgressSink& progress,
               const engine::CancelToken& cancel);

 private:
  void generate(const GenerationRequest& request, Response& response, engine::ProgressSink& progress,
                const engine::CancelToken& cancel);
  void load(const LoadModel& load, Response& response);
  void unload(const UnloadModel& unload, Response& response);
  void check_memory(const GenerationSpec& spec) const;

  engine::Engine& engine_;
  const ModelDirectories& models_;
  const OutputDirectory& outputs_;
  const Limits& limits_;
  const WorkerConfig& config_;
  const std::string& hashes_;  // the file
};

// The spec with every name of a model or picture replaced by its absolute path; all that cannot be found are
// complaints, with pointers into the message.
tl::expected<GenerationSpec, Refusal> resolve_files(const GenerationSpec& spec, const ModelDirectories& models,
                                                    const OutputDirectory& outputs);

// Sides that are not given become those of init_image, extended. Error invalid_argument where that is no size that may
// be asked for.
Result<void> settle_size(GenerationSpec& spec, const Limits& limits);

}  // namespace darkroom
