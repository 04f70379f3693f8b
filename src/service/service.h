// `darkroom serve`: everything put together, from start to signal.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "config/config.h"

namespace darkroom {

struct ServiceOptions {
  Config config;
  std::filesystem::path worker;               // the program
  std::vector<std::string> worker_arguments;  // settings for it
};

class Service {
 public:
  // Refuses to listen beyond this machine without API keys (error invalid_argument says how it would).
  static Result<std::unique_ptr<Service>> start(ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  std::string url() const;  // "http://127.0.0.1:7860"
  std::uint16_t port() const;
  // All that is answered: method and pattern, "/v1/jobs/{id}". openapi.json must have the same.
  const std::vector<std::pair<std::string, std::string>>& routes() const;
  // What SIGHUP asks for: certificates, and what models there are. Keys are read by themselves.
  void reload();
  // Takes no more requests, lets running jobs end within the configured time, gives back the others. Once.
  void drain();

 private:
  class Parts;
  explicit Service(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace darkroom
