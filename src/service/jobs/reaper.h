// Whether this node may queue again what runs under nodes whose lease is over. A node that could not renew its own, or
// was stopped for so long that it did not, must not believe what it sees: the database was away, for the others too,
// and they get time to renew before they are taken for dead.
#pragma once

#include <chrono>
#include <optional>

namespace darkroom {

class Reaper {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kStandStill{20};

  // The lease was renewed.
  void renewed(Time now);
  // The store did not do what it was asked for.
  void store_failed(Time now) { stands_until_ = now + kStandStill; }
  // Nothing runs here any more: there is no lease to renew.
  void idle() { last_renewal_.reset(); }
  bool may_reap(Time now) const { return !stands_until_ || now >= *stands_until_; }

 private:
  std::optional<Time> last_renewal_;  // since something runs
  std::optional<Time> stands_until_;
};

}  // namespace darkroom
