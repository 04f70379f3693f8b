// A running service, asked over HTTP as any client asks it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>
#include <tl/expected.hpp>

#include "config/config.h"
#include "protocol/messages.h"

namespace darkroom {

struct ServiceAddress {
  std::string url;      // "https://pictures.example/darkroom", no slash at the end
  std::string key;      // an API key; "": none
  std::string ca_file;  // PEM, of the authority that signed the service's certificate; "": the system's
};

// Where a service with these settings is to be found from this machine.
std::string url_of(const HttpConfig& config);

// A text as one part of a path.
std::string as_path_part(const std::string& text);

class ServiceClient {
 public:
  explicit ServiceClient(ServiceAddress address) : address_(std::move(address)) {}

  // `target`: "/v1/jobs?limit=2". The answer's JSON, null where it has none. A refusal: the service's own, or not_found
  // where none answers.
  tl::expected<nlohmann::ordered_json, Refusal> ask(const std::string& method, const std::string& target) const;

 private:
  ServiceAddress address_;
};

}  // namespace darkroom
