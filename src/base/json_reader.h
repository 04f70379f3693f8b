// Decoding at the edge: a function names the fields of a struct once, with what they must hold, and every mistake of
// the JSON is collected with its pointer (RFC 6901): wrong types, ranges, unknown and missing keys, all in one answer.
//   template <class Io, class T> void fields(Io& io, T& v) {
//     io.required("prompt", v.prompt, not_empty(), max_bytes(limits.prompt_bytes));
//     io.field("steps", v.steps, between(1, limits.max_steps));
//   }
// The same function with a JsonWriter (json_writer.h) encodes, so that the two cannot differ.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/enum_names.h"
#include "base/error.h"
#include "base/near_match.h"
#include "base/text.h"

namespace darkroom {

struct Complaint {
  std::string pointer;  // "/dimensions/width"; "" is the whole
  std::string message;  // follows the pointer: "is 250, must be a multiple of 8"
};

// All complaints as one error, invalid_argument; there must be one at least.
Error as_error(const std::vector<Complaint>& complaints);

// What a value must be; a check answers what is wrong, or "".
template <class T>
auto between(T low, T high) {
  return [low, high](const auto& value) -> std::string {
    if (value >= low && value <= high) return "";
    return fmt::format("is {}, must be between {} and {}", value, low, high);
  };
}

inline auto multiple_of(int divisor) {
  return [divisor](int value) -> std::string {
    if (value % divisor == 0) return "";
    return fmt::format("is {}, must be a multiple of {}", value, divisor);
  };
}

inline auto zero_or_at_least(int least) {
  return [least](int value) -> std::string {
    if (value == 0 || value >= least) return "";
    return fmt::format("is {}, must be 0 or at least {}", value, least);
  };
}

inline auto not_empty() {
  return [](const std::string& value) -> std::string {
    return value.find_first_not_of(" \t\r\n") == std::string::npos ? "must not be empty" : "";
  };
}

inline auto max_bytes(std::size_t limit) {
  return [limit](const std::string& value) -> std::string {
    if (value.size() <= limit) return "";
    return fmt::format("has {} bytes, at most {} are allowed", value.size(), limit);
  };
}

// One value out of its JSON; the answer is what is wrong, or "".
std::string read_value(const nlohmann::json& value, bool& out);
std::string read_value(const nlohmann::json& value, std::string& out);
std::string read_value(const nlohmann::json& value, double& out);
std::string read_value(const nlohmann::json& value, float& out);
// A whole number, also in the form 25.0.
std::string read_signed(const nlohmann::json& value, std::int64_t low, std::int64_t high, std::int64_t& out);
std::string read_unsigned(const nlohmann::json& value, std::uint64_t high, std::uint64_t& out);
// "expected WHAT, found VALUE (shortened)"
std::string expected(std::string_view what, const nlohmann::json& found);

template <std::integral T>
std::string read_value(const nlohmann::json& value, T& out) {
  std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t> wide = 0;
  std::string trouble;
  if constexpr (std::is_signed_v<T>) {
    trouble = read_signed(value, std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), wide);
  } else {
    trouble = read_unsigned(value, std::numeric_limits<T>::max(), wide);
  }
  if (trouble.empty()) out = static_cast<T>(wide);
  return trouble;
}

template <NamedEnum E>
std::string read_value(const nlohmann::json& value, E& out) {
  std::string name;
  if (std::string trouble = read_value(value, name); !trouble.empty()) return trouble;
  if (const std::optional<E> found = value_of<E>(name)) {
    out = *found;
    return "";
  }
  const std::vector<std::string> names = all_names<E>();
  return fmt::format("is \"{}\", must be {}", name.substr(0, 60), join_with_or(names));
}

template <class T>
std::string read_value(const nlohmann::json& value, std::optional<T>& out) {
  return read_value(value, out.emplace());
}

template <class T>
std::string read_value(const nlohmann::json& value, std::vector<T>& out) {
  constexpr std::size_t kMost = 1000;
  if (!value.is_array()) return expected("a list", value);
  if (value.size() > kMost) return fmt::format("has {} elements, at most {} are allowed", value.size(), kMost);
  out.clear();
  for (const nlohmann::json& element : value) {
    T one{};
    if (std::string trouble = read_value(element, one); !trouble.empty()) return trouble;
    out.push_back(std::move(one));
  }
  return "";
}

class JsonReader {
 public:
  static constexpr bool kReading = true;

  // `object` must outlive the reader. Something that is no object is complained about, and then has no keys.
  JsonReader(const nlohmann::json& object, std::string pointer, std::vector<Complaint>& complaints);

  // A key that may be absent (or null): `out` then keeps its default.
  template <class T, class... Checks>
  bool field(std::string_view key, T& out, const Checks&... checks) {
    const nlohmann::json* value = take(key);
    if (value == nullptr) return false;
    if (const std::string trouble = read_value(*value, out); !trouble.empty()) {
      complain(key, trouble);
    } else {
      (check(key, out, checks), ...);
    }
    return true;
  }

  template <class T, class... Checks>
  void required(std::string_view key, T& out, const Checks&... checks) {
    if (!field(key, out, checks...)) complain(key, "is required");
  }

  // An object inside this one: read(JsonReader&).
  template <class Read>
  bool object(std::string_view key, Read&& read) {
    const nlohmann::json* value = take(key);
    if (value == nullptr) return false;
    JsonReader inner(*value, pointer_of(key), *complaints_);
    read(inner);
    inner.finish();
    return true;
  }

  // The same into an optional struct, which exists if the key does: read(JsonReader&, T&).
  template <class T, class Read>
  void optional(std::string_view key, std::optional<T>& out, Read&& read) {
    object(key, [&](JsonReader& inner) { read(inner, out.emplace()); });
  }

  // A list of objects: read(JsonReader&, T&) fills one and answers whether to keep it.
  template <class T, class Read>
  void list(std::string_view key, std::vector<T>& out, std::size_t most, Read&& read) {
    const nlohmann::json* value = take(key);
    if (value == nullptr) return;
    if (!value->is_array()) return complain(key, expected("a list", *value));
    if (value->size() > most) {
      return complain(key, fmt::format("has {} elements, at most {} are allowed", value->size(), most));
    }
    out.clear();
    for (std::size_t i = 0; i < value->size(); ++i) {
      read_element((*value)[i], fmt::format("{}/{}", pointer_of(key), i), out, read);
    }
  }

  // The same where a single object may stand for a list of one.
  template <class T, class Read>
  void one_or_more(std::string_view key, std::vector<T>& out, std::size_t most, Read&& read) {
    const nlohmann::json* value = take(key);
    if (value == nullptr || !value->is_object()) return list(key, out, most, read);
    out.clear();
    read_element(*value, pointer_of(key), out, read);
  }

  // Whether the key is there and not null.
  bool has(std::string_view key) const;
  // The raw value of a key, null where it is absent or null; the key then counts as known.
  const nlohmann::json* take(std::string_view key);
  // All keys that nobody took yet, which then count as known: for open maps.
  std::vector<std::pair<std::string, const nlohmann::json*>> take_rest();

  void complain(std::string_view key, std::string message);
  // The same of something deeper: "/models/base", seen from this object.
  void complain_at(std::string_view pointer, std::string message);
  // Complains about the keys that were not taken.
  void finish();

 private:
  std::string pointer_of(std::string_view key) const;
  template <class T, class Check>
  void check(std::string_view key, const T& value, const Check& rule) {
    if (std::string trouble = rule(value); !trouble.empty()) complain(key, std::move(trouble));
  }
  template <class T, class Check>
  void check(std::string_view key, const std::optional<T>& value, const Check& rule) {
    check(key, *value, rule);
  }
  template <class T, class Read>
  void read_element(const nlohmann::json& value, std::string pointer, std::vector<T>& out, Read& read) {
    JsonReader inner(value, std::move(pointer), *complaints_);
    T element;
    const bool keep = read(inner, element);
    inner.finish();
    if (keep) out.push_back(std::move(element));
  }

  const nlohmann::json* object_;
  std::string pointer_;
  std::vector<Complaint>* complaints_;
  std::set<std::string, std::less<>> known_;
};

// Decodes a whole document: read(JsonReader&), then the complaints about the rest.
template <class Read>
std::vector<Complaint> read_json(const nlohmann::json& document, Read&& read) {
  std::vector<Complaint> complaints;
  JsonReader reader(document, "", complaints);
  read(reader);
  reader.finish();
  return complaints;
}

}  // namespace darkroom
