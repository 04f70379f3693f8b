// Requests a minute, for each key: a bucket that fills steadily and holds a minute's worth.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

namespace darkroom {

class RateLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Takes one of `per_minute`; zero if there was one, else the time until there will be.
  std::chrono::milliseconds take(const std::string& key, int per_minute, Time now);

 private:
  struct Bucket {
    double tokens = 0.0;
    Time filled;
  };
  std::mutex mutex_;
  std::map<std::string, Bucket> buckets_;  // one a key: as many as there are keys with a limit
};

}  // namespace darkroom
