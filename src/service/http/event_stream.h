// Server-sent events (WHATWG HTML, 9.2): what is written is kept until the client has taken it, up to a limit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "service/http/later.h"

namespace darkroom::http {

// Whether an event may be left out when the client is slow.
enum class Delivery : std::uint8_t { certain, best_effort };

struct ServerEvent {
  std::string id;    // for Last-Event-ID; "": none
  std::string name;  // "": "message"
  std::string data;  // lines are split as the format asks
  Delivery delivery = Delivery::certain;
};

class EventStream {
 public:
  static constexpr std::size_t kUsualWaiting = 1024 * 1024;

  // `most_waiting`: bytes that wait for a slow client. Events of best effort are left out beyond half of it; beyond all
  // of it the stream is cut, and the client comes back with its Last-Event-ID.
  explicit EventStream(std::size_t most_waiting = kUsualWaiting) : most_waiting_(most_waiting) {}

  // From any thread, never waits. After the end nothing more is taken.
  void send(const ServerEvent& event);
  // What was sent still goes out, then the stream ends.
  void finish();

  // Kept until the client has gone or the stream has ended: a subscription, say. Before the handler returns.
  void keep(std::shared_ptr<void> what) { kept_ = std::move(what); }

  // --- For the server. ---
  struct Waiting {
    std::string text;  // as it goes over the wire
    bool ended = false;
  };
  Waiting take();
  Bell& bell() { return bell_; }
  void let_go();  // no more events; what was kept goes

 private:
  std::size_t most_waiting_;
  Bell bell_;
  std::mutex mutex_;  // over the next three
  std::string waiting_;
  bool ended_ = false;
  std::shared_ptr<void> kept_;
};

// The event in the wire's form.
std::string to_text(const ServerEvent& event);

}  // namespace darkroom::http
