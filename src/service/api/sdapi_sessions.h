// What webui has once for all and what belongs to each caller here: his options, and what he waits for. A caller is his
// key, else his address.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "service/api/sdapi_request.h"

namespace darkroom {

// A request that is not answered yet.
struct SdapiActivity {
  struct Part {
    std::string job;  // id
    int pictures = 1;
  };
  std::vector<Part> parts;
  std::string job_timestamp;
  bool interrupted = false;
  std::string preview;  // the newest, encoded; "": none
};

// Every function may be called from any thread.
class SdapiSessions {
 public:
  using Clock = std::chrono::steady_clock;

  // Beyond that many callers, who was not heard of for longest is forgotten, unless he waits for something.
  explicit SdapiSessions(std::size_t most_callers = 10'000) : most_callers_(most_callers) {}

  SdapiOptions options(const std::string& caller);
  void set_options(const std::string& caller, SdapiOptions options);

  // A request begins; the number is its own. finish() must follow.
  std::uint64_t begin(const std::string& caller, SdapiActivity activity);
  void set_preview(const std::string& caller, std::uint64_t request, std::string preview);
  // What it was at the end; nothing: it is not there.
  std::optional<SdapiActivity> finish(const std::string& caller, std::uint64_t request);

  // The caller's oldest request: what progress tells and interrupt ends.
  std::optional<SdapiActivity> current(const std::string& caller);
  // Marks it as interrupted; the jobs are then to be cancelled.
  std::vector<std::string> interrupt(const std::string& caller);

 private:
  struct Session {
    SdapiOptions options;
    std::map<std::uint64_t, SdapiActivity> requests;  // by number, so by age
    Clock::time_point heard;
  };
  Session& session(const std::string& caller);  // mutex_ is held

  std::size_t most_callers_;
  std::mutex mutex_;
  std::map<std::string, Session> sessions_;
  std::uint64_t next_request_ = 1;
};

}  // namespace darkroom
