// An answer that waits for something else to happen, without a thread that waits with it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "service/http/message.h"

namespace darkroom::http {

// A bell that anybody may ring and one listens to. Rung before somebody listens, it is heard at once.
class Bell {
 public:
  void ring();
  bool has_rung() const;
  // `heard` runs in the ringing thread, or in this one; it must neither wait nor use the bell. What listened before no
  // longer runs when this returns.
  void listen(std::function<void()> heard);

 private:
  mutable std::mutex mutex_;
  bool rung_ = false;
  std::function<void()> heard_;
};

// Listens for as long as it lives.
class Listening {
 public:
  Listening(Bell& bell, std::function<void()> heard) : bell_(bell) { bell_.listen(std::move(heard)); }
  ~Listening() { bell_.listen({}); }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  Bell& bell_;
};

// What a handler hands back in place of a response: `respond` runs once, on a handler's thread, after the bell has
// rung, at the deadline, or when the server ends.
class Later {
 public:
  Later(std::chrono::steady_clock::time_point deadline, std::function<Response()> respond)
      : deadline_(deadline), respond_(std::move(respond)) {}

  Bell& bell() { return bell_; }
  std::chrono::steady_clock::time_point deadline() const { return deadline_; }
  Response respond() const { return respond_(); }

  // Kept until the answer is on its way: a subscription, say. To be called before the handler returns.
  void keep(std::shared_ptr<void> what) { kept_ = std::move(what); }
  // Runs on a handler's thread, instead of `respond`, if the client has gone. To be set before the handler returns.
  void on_gone(std::function<void()> gone) { gone_ = std::move(gone); }
  void client_is_gone() const {
    if (gone_) gone_();
  }
  void let_go() { kept_.reset(); }

 private:
  Bell bell_;
  std::chrono::steady_clock::time_point deadline_;
  std::function<Response()> respond_;
  std::function<void()> gone_;
  std::shared_ptr<void> kept_;
};

}  // namespace darkroom::http
