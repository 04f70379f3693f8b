// A request as handlers see it, and what they answer: text, part of a file, a stream of events, or "later".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/fd.h"
#include "service/auth/authenticator.h"

namespace darkroom::http {

class EventStream;  // event_stream.h
class Later;        // later.h

// Names without regard to case, in the order in which they came.
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  void add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  // In place of all of that name.
  void set(std::string name, std::string value);
  bool has(std::string_view name) const { return find(name) != nullptr; }
  // The first of that name; "" where there is none.
  std::string_view get(std::string_view name) const;

  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

 private:
  const Field* find(std::string_view name) const;

  std::vector<Field> fields_;
};

struct Request {
  std::string method;                                      // "GET"
  std::string path;                                        // decoded, without the prefix and a last slash: "/v1/jobs"
  std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
  std::map<std::string, std::string, std::less<>> parameters;  // the {names} of the route's pattern
  Headers headers;
  std::string body;
  std::string peer;      // the client's address; a trusted proxy's word for it counts
  std::string base_url;  // as the client reaches us, prefix included, no slash at the end: for absolute links
  std::string request_id;
  Principal principal;

  // The first of that name; nothing: there is none.
  std::optional<std::string_view> query_value(std::string_view name) const;
  // The one that the route's pattern has.
  const std::string& parameter(std::string_view name) const;
};

// Bytes of a file that are sent as they are read.
struct FilePart {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

using Body = std::variant<std::string, FilePart, std::shared_ptr<EventStream>>;

struct Response {
  int status = 200;
  Headers headers;
  Body body;
};

using Answer = std::variant<Response, std::shared_ptr<Later>>;

Response text_response(int status, std::string content_type, std::string body);

}  // namespace darkroom::http
