// The names of an enumeration's values as people write them. An enumeration that travels declares, beside itself,
//   constexpr auto enum_names(Colour) { return std::to_array<EnumName<Colour>>({{"red", Colour::red}, …}); }
// and is then read, written and listed by that one table.
#pragma once

#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace darkroom {

template <class E>
struct EnumName {
  std::string_view name;
  E value;
};

template <class E>
concept NamedEnum = std::is_enum_v<E> && requires(E e) {
  enum_names(e);
};

template <NamedEnum E>
constexpr std::string_view name_of(E value) {
  for (const auto& entry : enum_names(E{})) {
    if (entry.value == value) return entry.name;
  }
  std::abort();  // a value that is no enumerator
}

template <NamedEnum E>
constexpr std::optional<E> value_of(std::string_view name) {
  for (const auto& entry : enum_names(E{})) {
    if (entry.name == name) return entry.value;
  }
  return std::nullopt;
}

template <NamedEnum E>
std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const auto& entry : enum_names(E{})) names.emplace_back(entry.name);
  return names;
}

}  // namespace darkroom
