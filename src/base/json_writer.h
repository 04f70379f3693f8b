// The encoding half of json_reader.h: the same calls, the other way. Checks are the reader's and ignored here.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/enum_names.h"

namespace darkroom {

// 0.8F as 0.8, not as 0.800000011920929: the shortest decimal that reads back as the same float.
double shortest_decimal(float value);

template <class T>
nlohmann::json write_value(const T& value) {
  if constexpr (NamedEnum<T>) {
    return name_of(value);
  } else if constexpr (std::same_as<T, float>) {
    return shortest_decimal(value);
  } else {
    return value;
  }
}

template <class T>
nlohmann::json write_value(const std::vector<T>& values) {
  nlohmann::json list = nlohmann::json::array();
  for (const T& value : values) list.push_back(write_value(value));
  return list;
}

class JsonWriter {
 public:
  static constexpr bool kReading = false;

  template <class T, class... Checks>
  void field(std::string_view key, const T& value, const Checks&...) {
    out_[key] = write_value(value);
  }
  // A value that is absent has no key.
  template <class T, class... Checks>
  void field(std::string_view key, const std::optional<T>& value, const Checks&...) {
    if (value) field(key, *value);
  }
  template <class T, class... Checks>
  void required(std::string_view key, const T& value, const Checks&...) {
    field(key, value);
  }
  template <class Write>
  void object(std::string_view key, Write&& write) {
    JsonWriter inner;
    write(inner);
    out_[key] = inner.take();
  }
  template <class T, class Write>
  void optional(std::string_view key, const std::optional<T>& value, Write&& write) {
    if (value) object(key, [&](JsonWriter& inner) { write(inner, *value); });
  }
  template <class T, class Write>
  void list(std::string_view key, const std::vector<T>& values, std::size_t, Write&& write) {
    nlohmann::json elements = nlohmann::json::array();
    for (const T& value : values) {
      JsonWriter inner;
      write(inner, value);
      elements.push_back(inner.take());
    }
    out_[key] = std::move(elements);
  }
  template <class T, class Write>
  void one_or_more(std::string_view key, const std::vector<T>& values, std::size_t most, Write&& write) {
    list(key, values, most, write);
  }
  nlohmann::json take() { return std::exchange(out_, nlohmann::json::object()); }

 private:
  nlohmann::json out_ = nlohmann::json::object();
};

// write(JsonWriter&) as a document.
template <class Write>
nlohmann::json write_json(Write&& write) {
  JsonWriter writer;
  write(writer);
  return writer.take();
}

}  // namespace darkroom
