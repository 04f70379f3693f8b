#include "service/http/later.h"

namespace darkroom::http {

void Bell::ring() {
  std::function<void()> heard;
  {
    const std::lock_guard lock(mutex_);
    rung_ = true;
    heard = heard_;
  }
  if (heard) heard();
}

bool Bell::has_rung() const {
  const std::lock_guard lock(mutex_);
  return rung_;
}

void Bell::listen(const std::function<void()>& heard) {
  bool at_once = false;
  {
    const std::lock_guard lock(mutex_);
    heard_ = heard;
    at_once = rung_;
  }
  if (at_once && heard) heard();
}

}  // namespace darkroom::http
