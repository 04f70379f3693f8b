#include "service/http/message.h"

#include <algorithm>

#include "service/http/text.h"

namespace darkroom::http {

const Headers::Field* Headers::find(std::string_view name) const {
  const auto found =
      std::find_if(fields_.begin(), fields_.end(), [&](const Field& field) { return same_word(field.first, name); });
  return found == fields_.end() ? nullptr : &*found;
}

void Headers::set(std::string name, std::string value) {
  std::erase_if(fields_, [&](const Field& field) { return same_word(field.first, name); });
  add(std::move(name), std::move(value));
}

std::string_view Headers::get(std::string_view name) const {
  const Field* field = find(name);
  return field == nullptr ? std::string_view() : field->second;
}

std::optional<std::string_view> Request::query_value(std::string_view name) const {
  for (const auto& [key, value] : query) {
    if (key == name) return value;
  }
  return std::nullopt;
}

const std::string& Request::parameter(std::string_view name) const {
  const auto found = parameters.find(name);
  DR_ASSERT(found != parameters.end());
  return found->second;
}

Response text_response(int status, std::string content_type, std::string body) {
  return {.status = status, .headers = {{"Content-Type", std::move(content_type)}}, .body = std::move(body)};
}

}  // namespace darkroom::http
