// A worker as a process, spoken to as its parent does; everything that it says is held against the schemas of api/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/subprocess.h"
#include "protocol/line_channel.h"

namespace darkroom::test {

// What a worker is started with.
struct WorkerSettings {
  std::filesystem::path program;
  std::filesystem::path root;  // "models" and "outputs" lie in it, "darkroom.toml" is written into it
  std::string config;          // TOML
  // Of what the worker may take; applied by a shell ("ulimit -f 8"), "": nothing.
  std::string limits;
};

class WorkerProgram {
 public:
  // Waits until it is ready. Fails the test if it is not.
  explicit WorkerProgram(const WorkerSettings& settings);

  // False once nobody listens.
  bool send_line(std::string_view line);
  bool send(const std::string& type, const std::string& id, const nlohmann::json& data = nlohmann::json::object());

  // The next message; null once there are no more. A message that does not fit its schema fails the test.
  nlohmann::json next();
  // The next response, of that request or of any; events are passed over.
  nlohmann::json response();
  nlohmann::json response_to(const std::string& id);

  int pid() const { return pid_; }
  // Bytes: what is resident now, and the most since the start or reset_peak().
  std::uint64_t resident() const { return status_field("VmRSS:"); }
  std::uint64_t peak() const { return status_field("VmHWM:"); }
  void reset_peak() const;

  Subprocess& process() { return process_; }
  // Closes its input and reads what is left; how it ended.
  ExitStatus finish();

 private:
  std::uint64_t status_field(std::string_view name) const;

  Subprocess process_;
  LineReader reader_;
  int pid_ = 0;
};

// Whether the tests are built with a sanitizer, whose own memory says nothing about ours.
constexpr bool under_sanitizer() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

}  // namespace darkroom::test
