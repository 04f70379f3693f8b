#include "service/routes/quota_gate.h"

#include <algorithm>

namespace darkroom {
namespace {

using std::chrono::days;
using std::chrono::seconds;
using std::chrono::system_clock;

constexpr seconds kBusyPause(5);  // when to come again to a service that is busy

std::int64_t today() { return system_clock::now().time_since_epoch() / days(1); }

seconds until_midnight() {
  return std::chrono::ceil<seconds>(days(1) - system_clock::now().time_since_epoch() % days(1));
}

}  // namespace

tl::expected<Submitted, QuotaGate::Refused> QuotaGate::submit(const Principal& who, Submission submission) {
  submission.caller = {.key = who.key, .weight = who.limits.weight};
  if (who.limits.concurrency > 0) submission.allowance.unfinished = who.limits.concurrency;
  if (who.limits.pictures_per_day > 0) return submit_counted(std::move(submission), who.limits.pictures_per_day);
  Result<Submitted> submitted = jobs_.submit(submission);
  if (!submitted) return tl::unexpected(Refused{submitted.error(), kBusyPause});
  return std::move(*submitted);
}

tl::expected<Submitted, QuotaGate::Refused> QuotaGate::submit_counted(Submission submission, int pictures_per_day) {
  Daily& count = daily(submission.caller.key);
  const std::lock_guard lock(count.mutex);
  if (count.day != today()) {
    count.day = today();
    count.pictures = jobs_.usage(submission.caller.key).pictures_today;
  }
  const auto limit = static_cast<std::uint64_t>(pictures_per_day);
  const auto left = static_cast<int>(limit - std::min(limit, count.pictures));
  submission.allowance.pictures = left;
  Result<Submitted> submitted = jobs_.submit(submission);
  if (!submitted) {
    return tl::unexpected(
        Refused{submitted.error(), submission.spec.batch_size > left ? until_midnight() : kBusyPause});
  }
  if (!submitted->repeated) count.pictures += static_cast<std::uint64_t>(submission.spec.batch_size);
  return std::move(*submitted);
}

QuotaGate::Daily& QuotaGate::daily(const std::string& key) {
  const std::lock_guard lock(mutex_);
  return daily_[key];
}

}  // namespace darkroom
