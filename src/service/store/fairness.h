// Start-time fair queueing (Goyal et al. 1996): one number a job, by which those of all flows are ordered. A flow is a
// key's jobs of one class; each gets its share of the workers, and one that pauses neither loses nor saves any.
//   start = max(flow.finish, now_v);  flow.finish = start + cost / (key weight × class factor)
#pragma once

#include "spec/generation_spec.h"

namespace darkroom {

constexpr double class_factor(Priority priority) {
  switch (priority) {
    case Priority::low:
      return 1.0;
    case Priority::normal:
      return 4.0;
    case Priority::high:
      return 16.0;
  }
  return 0.0;
}

// How far a job of this cost moves its flow on.
constexpr double flow_span(double cost, double weight, Priority priority) {
  return cost / (weight * class_factor(priority));
}

}  // namespace darkroom
