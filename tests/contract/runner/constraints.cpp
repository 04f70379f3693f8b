#include "tests/contract/runner/constraints.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/text.h"
#include "metadata/picture_file.h"

namespace darkroom::contract {
namespace {

using nlohmann::json;

bool has_type(const json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "number") return value.is_number();
  if (type == "integer") return value.is_number_integer();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  throw std::runtime_error("a case file asks for the type " + type);
}

std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }

// The answer is what is wrong, or "".
std::string violation(const std::string& kind, const json& wanted, const json& value) {
  const std::string shown = value.dump().substr(0, 200);
  const auto unless = [&](bool holds) {
    return holds ? std::string() : fmt::format("is {}, must have {} {}", shown, kind, wanted.dump());
  };
  if (kind == "type") return unless(has_type(value, wanted));
  if (kind == "equals") return unless(value == wanted);
  if (kind == "not_empty") return unless(!text_of(value).empty());
  if (kind == "contains") return unless(text_of(value).find(text_of(wanted)) != std::string::npos);
  if (kind == "starts_with") return unless(text_of(value).starts_with(text_of(wanted)));
  if (kind == "size") return unless(value.is_array() && value.size() == wanted);
  if (kind == "min_size") return unless(value.is_array() && value.size() >= wanted.get<std::size_t>());
  if (kind == "picture") {
    const auto bytes = decode_base64(text_of(value));
    return unless(bytes && is_picture(*bytes, wanted));
  }
  if (kind == "json") {
    const json inner = json::parse(text_of(value), nullptr, false);
    if (inner.is_discarded()) return fmt::format("is {}, must be a text of JSON", shown);
    const std::vector<std::string> all = violations(wanted, inner);
    return all.empty() ? "" : fmt::format("as JSON: {}", fmt::join(all, "; "));
  }
  throw std::runtime_error("a case file has the constraint " + kind);
}

}  // namespace

bool is_picture(const std::string& bytes, const std::string& format) {
  const auto found = picture_format(std::as_bytes(std::span(bytes)));
  if (!found || !picture_size(std::as_bytes(std::span(bytes)))) return false;
  return (format == "png" && *found == PictureFormat::png) || (format == "jpeg" && *found == PictureFormat::jpeg) ||
         (format == "webp" && *found == PictureFormat::webp);
}

std::vector<std::string> violations(const json& constraints, const json& answer) {
  std::vector<std::string> all;
  for (const auto& [pointer, wanted] : constraints.items()) {
    const json::json_pointer at(pointer);
    const bool is_there = answer.contains(at);
    if (wanted.contains("absent")) {
      if (is_there) all.push_back(pointer + " must not be there");
      continue;
    }
    if (!is_there) {
      all.push_back(pointer + " is not there");
      continue;
    }
    for (const auto& [kind, value] : wanted.items()) {
      if (const std::string trouble = violation(kind, value, answer.at(at)); !trouble.empty()) {
        all.push_back(fmt::format("{} {}", pointer, trouble));
      }
    }
  }
  return all;
}

}  // namespace darkroom::contract
