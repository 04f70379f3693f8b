#include "service/http/later.h"

namespace darkroom::http {

void Bell::ring() {
  const std::lock_guard lock(mutex_);
  rung_ = true;
  if (heard_) heard_();
}

bool Bell::has_rung() const {
  const std::lock_guard lock(mutex_);
  return rung_;
}

void Bell::listen(std::function<void()> heard) {
  const std::lock_guard lock(mutex_);
  heard_ = std::move(heard);
  if (rung_ && heard_) heard_();
}

}  // namespace darkroom::http
