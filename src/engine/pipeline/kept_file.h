// A file that a job binds to its model instead of laying it out (a LoRA, a textual inversion), kept open and in memory.
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/pipeline/model_cache.h"
#include "engine/weights/weight_file.h"
#include "spec/model_role.h"

namespace darkroom::engine {

struct KeptFile final : LaidOutModel {
  // kept_as: lora, which may be a folder of PEFT's, or embedding. Throws Failure: those of opening it.
  KeptFile(ModelRole kept_as, const std::filesystem::path& path);
  std::uint64_t bytes() const override { return file.bytes; }

  // Whether it fits a model shows when a job binds it. Throws Failure{unsupported} for what can never be one of its
  // role: a file of another kind, a LoRA for another family of models, both by name.
  void require() const;
  // Reads all of it, so that the job finds it in memory.
  void read() const;

  ModelRole role;
  WeightFile file;
};

}  // namespace darkroom::engine
