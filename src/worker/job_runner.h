// Does one job after another and turns whatever comes of it into the response: the one place where the engine's
// failures are caught.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

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

  struct Member {
    const std::string& request_id;
    const GenerationRequest& request;
    engine::ProgressSink& progress;
    const engine::CancelToken& cancel;
  };
  // Generations that may_share(): together as far as the memory suffices, else one part of them after the other.
  // `on_start`: the jobs from `first` on, `count` of them, begin now. `on_end` is called for each once it is over.
  void run_together(std::span<const Member> members,
                    const std::function<void(std::size_t first, std::size_t count)>& on_start,
                    const std::function<void(std::size_t member, Response response)>& on_end);

 private:
  // A request that can be worked on.
  struct Prepared {
    GenerationSpec spec;  // paths are resolved
    std::vector<std::filesystem::path> paths;
    std::uint64_t predicted = 0;  // bytes
  };
  // Nothing: the response says why.
  std::optional<Prepared> prepare(const GenerationRequest& request, Response& response) const;
  void generate(const GenerationRequest& request, Response& response, engine::ProgressSink& progress,
                const engine::CancelToken& cancel);
  void generate_part(std::span<const Member> members, std::size_t first,
                     const std::function<void(std::size_t member, Response response)>& on_end);
  void write(const GenerationRequest& request, const Prepared& prepared, engine::GenerationResult result,
             Response& response);
  std::size_t fitting(std::span<const Member> members) const;
  void load(const LoadModel& load, Response& response);
  void unload(const UnloadModel& unload, Response& response);
  std::uint64_t allowed_bytes() const;
  // What it needs, in bytes. Throws Failure{out_of_memory} where that is more than there is or may be.
  std::uint64_t check_memory(const GenerationSpec& spec) const;

  engine::Engine& engine_;
  const ModelDirectories& models_;
  const OutputDirectory& outputs_;
  const Limits& limits_;
  const WorkerConfig& config_;
  const std::string& hashes_;  // the file
};

// Whether two requests can be run together, as far as their names say it.
bool may_share(const GenerationRequest& a, const GenerationRequest& b);

// The spec with every name of a model or picture replaced by its absolute path; all that cannot be found are
// complaints, with pointers into the message.
tl::expected<GenerationSpec, Refusal> resolve_files(const GenerationSpec& spec, const ModelDirectories& models,
                                                    const OutputDirectory& outputs);

// Sides that are not given become those of init_image, extended, and of a picture that is only enlarged its own. Error
// invalid_argument where that is no size that may be asked for; those of reading the picture.
Result<void> settle_size(GenerationSpec& spec, const Limits& limits);

}  // namespace darkroom
