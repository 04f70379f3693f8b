// keys.json in the data directory: every API key, hashed. `darkroom keys` writes it, a running service sees the change
// with the next request. Once the file exists, also with no key in it, the service asks everybody for a key.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "service/auth/api_key.h"

namespace darkroom {

struct NewKey {
  ApiKey key;
  std::string secret;  // "dk_…", never to be seen again
};

// What the owner decides about a new key.
struct KeyTerms {
  std::string name;
  std::vector<Scope> scopes = {Scope::generate};
  KeyLimits limits;
  std::int64_t expires = 0;  // seconds since 1970; 0: never
};

class KeyFile {
 public:
  explicit KeyFile(const std::filesystem::path& data_directory) : path_(data_directory / "keys.json") {}

  const std::filesystem::path& path() const { return path_; }

  // Nothing: there is no file. Error corrupt_data names each mistake in it.
  Result<std::optional<std::vector<ApiKey>>> load() const;
  // Makes the directory too. Errors: conflict (the name is taken), invalid_argument.
  Result<NewKey> add(const KeyTerms& terms);
  // By id or name. Error not_found.
  Result<ApiKey> revoke(const std::string& id_or_name);

 private:
  Result<void> save(const std::vector<ApiKey>& keys) const;

  std::filesystem::path path_;
};

}  // namespace darkroom
