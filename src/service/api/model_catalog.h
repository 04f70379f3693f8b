// The models that there are, by all the names that clients know them by.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "protocol/messages.h"

namespace darkroom {

struct CatalogModel {
  std::string name;  // below its folder, without extension: "sdxl/pony"; for generation requests, with the extension
  std::string file;  // "sdxl/pony.safetensors"
  std::string path;
  std::string sha256;  // hexadecimal, lower case; "": not known
  ModelRole role = ModelRole::checkpoint;
  std::uint64_t bytes = 0;

  std::string stem() const;        // "pony"
  std::string short_hash() const;  // the first ten digits; "": not known
  std::string title() const;       // webui's: "sdxl/pony.safetensors [0123456789]", or without a hash
};

class ModelCatalog {
 public:
  // The hashes that are known, by path. Models that cannot be used, and checkpoints that are not SDXL, are left out.
  explicit ModelCatalog(const std::vector<ModelEntry>& entries, const std::map<std::string, std::string>& hashes = {});

  std::vector<const CatalogModel*> of(ModelRole role) const;
  // By title with or without hash, file, name, stem, short hash or SHA-256; either slash, any case. Error not_found,
  // with what is near.
  Result<const CatalogModel*> find(ModelRole role, std::string_view wanted) const;

 private:
  std::vector<CatalogModel> models_;
};

}  // namespace darkroom
