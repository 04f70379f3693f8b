// Where a job's pictures go, and how they get there: named before the work starts, written whole or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "engine/pipeline/engine.h"
#include "protocol/messages.h"
#include "spec/generation_spec.h"
#include "worker/model_directories.h"

namespace darkroom {

class OutputDirectory {
 public:
  OutputDirectory(const std::string& directory, ModelDirectories::Reach reach);

  // One path a picture. A save_path that is absent, or "outputs/" as in the specification, is the directory itself; one
  // that ends in a slash or names a directory gets a file named after the request. Folders below the directory are
  // made; elsewhere they must exist. Errors, all found before the work: a path outside, a folder that is missing or
  // not writable.
  Result<std::vector<std::filesystem::path>> plan(const GenerationSpec& spec, const std::string& request_id) const;

  // A picture that a request brings by path: a former output, unless any file may be named.
  Result<std::filesystem::path> find_input(const std::string& path) const;

 private:
  std::filesystem::path root_;  // resolved
  ModelDirectories::Reach reach_;
};

// What a job leaves in the outputs directory.
struct Artifacts {
  std::vector<GeneratedImage> pictures;
  std::vector<std::string> control_maps;  // paths
};

// Encodes and writes every picture, one a path, and where the request asks for them the control pictures beside the
// first: "a.png" or "a-0.png" → "a-control-0.png", … If one fails, those of this job that were written are removed.
// `hashes`: the file of the models' SHA-256 (metadata/model_hashes.h); "": none. Errors: those of encoding and of
// write_file_atomically().
Result<Artifacts> write_artifacts(const std::vector<std::filesystem::path>& paths, const GenerationSpec& spec,
                                  const engine::GenerationResult& result, const std::filesystem::path& hashes);

// The parameters of one picture as the webui writes and reads them. `model_sha256`: "": not known.
std::string parameters_text(const GenerationSpec& spec, const engine::GeneratedPicture& picture,
                            const std::string& scheduler, const std::string& model_sha256);

}  // namespace darkroom
