// `darkroom serve` as a process of its own, to be loaded, killed and started again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/subprocess.h"

namespace darkroom {

struct ServedOptions {
  std::filesystem::path programs;  // where darkroom and the worker lie
  std::string worker = "fake-worker";
  std::filesystem::path folder;                      // data, outputs and, unless given, models lie in it
  std::filesystem::path models;                      // "": one name, sdxl, for workers that look into no file
  std::map<std::string, std::string> settings = {};  // DARKROOM_…, beside what this needs itself
};

class ServedProcess {
 public:
  // Chooses a port; starts nothing yet.
  explicit ServedProcess(ServedOptions options);

  // Starts it, and waits until it answers at all. Errors: those of starting, timed_out.
  Result<void> start();
  // Waits until it has a worker.
  Result<void> wait_until_ready() const;
  // SIGKILL, and its end.
  void kill();
  // SIGTERM; whether it has ended well within that time.
  bool stop(std::chrono::seconds patience);
  bool is_running() const { return process_.has_value(); }

  std::uint16_t port() const { return port_; }
  int pid() const;                       // of the service
  std::vector<int> worker_pids() const;  // its children
  std::uint64_t resident_bytes() const;  // of the service

 private:
  ServedOptions options_;
  std::uint16_t port_ = 0;
  std::optional<Subprocess> process_;
};

// A port of this machine that nobody listens at now, and that the system gives to no client meanwhile: one that asks
// again and again for a server that is not there would end up talking to itself.
std::uint16_t free_port();

}  // namespace darkroom
