#include "service/auth/rate_limiter.h"

#include <algorithm>
#include <cmath>

namespace darkroom {

std::chrono::milliseconds RateLimiter::take(const std::string& key, int per_minute, Time now) {
  const double per_millisecond = per_minute / 60'000.0;
  const std::lock_guard lock(mutex_);
  const auto [place, is_new] = buckets_.try_emplace(key, Bucket{static_cast<double>(per_minute), now});
  Bucket& bucket = place->second;
  const std::chrono::duration<double, std::milli> since = now - bucket.filled;
  bucket.tokens = std::min<double>(per_minute, bucket.tokens + std::max(0.0, since.count()) * per_millisecond);
  bucket.filled = now;
  if (bucket.tokens >= 1.0) {
    bucket.tokens -= 1.0;
    return std::chrono::milliseconds(0);
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil((1.0 - bucket.tokens) / per_millisecond)));
}

}  // namespace darkroom
