// Any bytes as a line, in both directions: an error, or a message that comes back from its own encoding.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "protocol/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace darkroom;
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  static const Limits limits;
  if (const auto request = decode_request(line, limits)) {
    const std::string again = encode(*request);
    const auto back = decode_request(again, limits);
    DR_ASSERT(back.has_value());
    DR_ASSERT(encode(*back) == again);
  } else {
    DR_ASSERT(request.error().refusal.has_value());
    DR_ASSERT(!encode(request.error()).empty());
  }
  if (const auto message = decode_worker_message(line)) {
    const std::string again = std::visit([](const auto& one) { return encode(one); }, *message);
    const auto back = decode_worker_message(again);
    DR_ASSERT(back.has_value());
    DR_ASSERT(std::visit([](const auto& one) { return encode(one); }, *back) == again);
  }
  return 0;
}
