#include "service/http/event_stream.h"

#include <algorithm>

#include "base/text.h"

namespace darkroom::http {
namespace {

// A field that ends at the first line break, which the format has no escape for.
std::string one_line(std::string text) {
  text.erase(std::min(text.find_first_of(std::string_view("\r\n\0", 3)), text.size()));
  return text;
}

}  // namespace

std::string to_text(const ServerEvent& event) {
  std::string text;
  if (!event.id.empty()) text += "id: " + one_line(event.id) + "\n";
  if (!event.name.empty()) text += "event: " + one_line(event.name) + "\n";
  std::string data = event.data;
  std::replace(data.begin(), data.end(), '\r', '\n');
  if (data.empty()) text += "data:\n";
  for (const std::string_view line : split(data, '\n')) text.append("data: ").append(line).append("\n");
  return text + "\n";
}

void EventStream::send(const ServerEvent& event) {
  const std::string text = to_text(event);
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    const std::size_t after = waiting_.size() + text.size();
    if (event.delivery == Delivery::best_effort && after > most_waiting_ / 2) return;
    if (after > most_waiting_ && !waiting_.empty()) {
      ended_ = true;
    } else {
      waiting_ += text;
    }
  }
  bell_.ring();
}

void EventStream::finish() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  bell_.ring();
}

EventStream::Waiting EventStream::take() {
  const std::lock_guard lock(mutex_);
  return {std::exchange(waiting_, {}), ended_};
}

void EventStream::let_go() {
  std::shared_ptr<void> kept;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    kept.swap(kept_);
  }
}

}  // namespace darkroom::http
