// An API key: what it may do and how much. The key itself is shown once, when it is made; only its hash is kept.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/enum_names.h"

namespace darkroom {

enum class Scope : std::uint8_t {
  none,      // no key is needed
  read,      // lists, and one's own jobs
  generate,  // make and cancel one's own jobs
  admin,     // everybody's jobs, models, metrics
};

constexpr auto enum_names(Scope) {
  using enum Scope;
  return std::to_array<EnumName<Scope>>({{"none", none}, {"read", read}, {"generate", generate}, {"admin", admin}});
}

// Of every limit 0 means that there is none.
struct KeyLimits {
  double weight = 1.0;       // share of the workers beside others who ask at the same time
  int per_minute = 0;        // requests that make something
  int concurrency = 0;       // jobs that are not finished
  int pictures_per_day = 0;  // UTC
};

struct ApiKey {
  std::string id;  // public: names the key in lists, logs and metrics
  std::string name;
  std::string sha256;  // of the key, hexadecimal
  std::vector<Scope> scopes;
  KeyLimits limits;
  std::int64_t created = 0;    // seconds since 1970
  std::int64_t expires = 0;    // the same; 0: never
  std::string webhook_secret;  // signs the messages about its jobs; the receiver has it too, so it is kept as it is
};

// Whoever has the admin scope may do everything, and whoever may generate may read.
bool allows(const std::vector<Scope>& scopes, Scope needed);

}  // namespace darkroom
