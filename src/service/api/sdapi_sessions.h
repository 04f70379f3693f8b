// What webui has once for all and what belongs to each caller here: his options, and which jobs are his now. A caller
// is his key, else his address.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "service/api/sdapi_request.h"

namespace darkroom {

// Jobs of one request, from its submission to its answer.
struct SdapiActivity {
  std::vector<std::string> jobs;  // ids, in their order
  std::size_t now = 0;            // index of the one that runs or waits
  int pictures = 0;               // of all of them
  int finished = 0;               // of these
  bool interrupted = false;
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
  void advance(const std::string& caller, std::uint64_t request, std::size_t now, int finished);
  void finish(const std::string& caller, std::uint64_t request);

  // The caller's oldest request that is not answered: what progress tells and interrupt ends.
  std::optional<SdapiActivity> current(const std::string& caller);
  // Marks it as interrupted; its jobs from the present one on are to be cancelled.
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
