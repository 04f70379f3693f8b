// Who asks: a request's credentials against keys.json, which may change at any time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "service/auth/api_key.h"
#include "service/auth/key_file.h"

namespace darkroom {

// Whom a request comes from.
struct Principal {
  std::string key;   // the API key's id; "": nobody in particular, on an open service
  std::string name;  // the key's
  std::vector<Scope> scopes;
  KeyLimits limits;

  bool may(Scope needed) const { return allows(scopes, needed); }
};

// What a request brought.
struct Credentials {
  std::string_view authorization;  // the header's value: Bearer KEY, or Basic with the key as user or password
  std::string_view api_key;        // of the headers api-key or x-api-key
};

// Whether somebody without a key is served while there is no keys.json, or ever.
enum class Openness : std::uint8_t {
  closed,            // never
  until_keys_exist,  // as long as there is no keys.json
  always,            // with a key or without
};

class Authenticator {
 public:
  Authenticator(const std::filesystem::path& data_directory, Openness openness)
      : file_(data_directory), openness_(openness) {}

  // Errors: invalid_argument (no credentials), not_found (no such key, or it has expired), internal (keys.json is
  // damaged: nobody gets in).
  Result<Principal> identify(const Credentials& credentials);
  // Whether somebody without a key is served now.
  bool is_open();
  // The key of that id, as it is now.
  std::optional<ApiKey> key(const std::string& id);

 private:
  struct Keys {
    bool exist = false;
    std::vector<ApiKey> list;
    std::string trouble;  // why the file cannot be read; "": it can
  };
  std::shared_ptr<const Keys> keys();

  KeyFile file_;
  Openness openness_;
  std::mutex mutex_;  // over what follows
  std::shared_ptr<const Keys> keys_;
  std::string version_;  // of the file that keys_ was read from
};

}  // namespace darkroom
