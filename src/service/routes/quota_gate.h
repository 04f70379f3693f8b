// The one door to Jobs::submit: puts into a submission whose it is and what his key's quotas still allow.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include <tl/expected.hpp>

#include "service/auth/authenticator.h"
#include "service/jobs/jobs.h"

namespace darkroom {

class QuotaGate {
 public:
  struct Refused {
    Error error;
    std::chrono::seconds retry_after;  // when it may be otherwise
  };

  explicit QuotaGate(Jobs& jobs) : jobs_(jobs) {}

  tl::expected<Submitted, Refused> submit(const Principal& who, Submission submission);

 private:
  // Of one key and one day.
  struct Daily {
    std::mutex mutex;  // held while a job is admitted
    std::int64_t day = 0;
    std::uint64_t pictures = 0;  // asked for; those of an earlier run of the service count once they are finished
  };
  tl::expected<Submitted, Refused> submit_counted(Submission submission, int pictures_per_day);
  Daily& daily(const std::string& key);

  Jobs& jobs_;
  std::mutex mutex_;                    // over what follows
  std::map<std::string, Daily> daily_;  // as many as there are keys with such a quota
};

}  // namespace darkroom
