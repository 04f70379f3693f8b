// Messages to lines and back. A line has no newline of its own; the channel adds it.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include <tl/expected.hpp>

#include "base/error.h"
#include "protocol/messages.h"

namespace darkroom {

// The refusal is the response to send: it carries the request's id where one could be read.
tl::expected<Request, Response> decode_request(std::string_view line, const Limits& limits);
std::string encode(const Request& request);

using WorkerMessage = std::variant<Response, Event>;

std::string encode(const Response& response);
std::string encode(const Event& event);
Result<WorkerMessage> decode_worker_message(std::string_view line);

}  // namespace darkroom
