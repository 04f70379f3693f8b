#include "service/api/tolerant_reader.h"

#include <charconv>
#include <cmath>

#include "base/text.h"

namespace darkroom {
namespace {

using nlohmann::json;

const json kNothing = json::object();

template <class T>
std::optional<T> parsed(std::string_view text) {
  text = trimmed(text);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

TolerantReader::TolerantReader(const json& object, std::string pointer, std::vector<Complaint>& complaints)
    : object_(&object), pointer_(std::move(pointer)), complaints_(&complaints) {
  if (object.is_object()) return;
  object_ = &kNothing;
  complaints_->push_back({pointer_, expected("an object", object)});
}

const json* TolerantReader::value(std::string_view key) const {
  const auto found = object_->find(key);
  if (found == object_->end() || found->is_null()) return nullptr;
  if (found->is_string() && found->get_ref<const std::string&>().empty()) return nullptr;
  return &*found;
}

bool TolerantReader::text(std::string_view key, std::string& out) const {
  const json* found = value(key);
  if (found == nullptr) return false;
  if (std::string trouble = read_value(*found, out); !trouble.empty()) {
    complain(key, std::move(trouble));
    return false;
  }
  return true;
}

bool TolerantReader::flag(std::string_view key, bool& out) const {
  const json* found = value(key);
  if (found == nullptr) return false;
  const std::string word = found->is_string() ? to_lower(found->get_ref<const std::string&>()) : found->dump();
  const bool is_true = word == "true" || word == "1" || word == "1.0" || word == "on";
  const bool is_false = word == "false" || word == "0" || word == "0.0" || word == "off";
  if (!is_true && !is_false) {
    complain(key, expected("true or false", *found));
    return false;
  }
  out = is_true;
  return true;
}

std::optional<double> TolerantReader::read_number(std::string_view key) const {
  const json* found = value(key);
  if (found == nullptr) return std::nullopt;
  std::optional<double> number;
  if (found->is_number()) number = found->get<double>();
  if (found->is_string()) number = parsed<double>(found->get_ref<const std::string&>());
  if (number && std::isfinite(*number)) return number;
  complain(key, expected("a number", *found));
  return std::nullopt;
}

bool TolerantReader::whole(std::string_view key, int& out, int low, int high) const {
  const std::optional<double> number = read_number(key);
  if (!number) return false;
  const double cut = std::trunc(*number);
  if (cut < low || cut > high) {
    complain(key, fmt::format("is {}, must be between {} and {}", *number, low, high));
    return false;
  }
  out = static_cast<int>(cut);
  return true;
}

bool TolerantReader::number(std::string_view key, float& out, float low, float high) const {
  const std::optional<double> number = read_number(key);
  if (!number) return false;
  const auto narrow = static_cast<float>(*number);
  if (narrow < low || narrow > high) {
    complain(key, fmt::format("is {}, must be between {} and {}", *number, low, high));
    return false;
  }
  out = narrow;
  return true;
}

bool TolerantReader::seed(std::string_view key, std::uint64_t& out) const {
  const json* found = value(key);
  if (found == nullptr) return false;
  json number = *found;
  if (found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    if (const auto natural = parsed<std::uint64_t>(text)) {
      number = *natural;
    } else if (const auto any = parsed<double>(text)) {
      number = *any;
    } else if (trimmed(text).empty()) {
      return false;
    }
  }
  if (number.is_number_float()) {  // a double holds whole numbers up to 2^53
    const double cut = std::trunc(number.get<double>());
    if (std::abs(cut) <= 9007199254740992.0) number = static_cast<std::int64_t>(cut);
  }
  // Asked for its sign first: to the library, 2^64 − 1 equals −1.
  if (number.is_number_integer() && !number.is_number_unsigned() && number == -1) return false;
  std::uint64_t seed = 0;
  if (std::string trouble = read_value(number, seed); !trouble.empty()) {
    complain(key, std::move(trouble));
    return false;
  }
  out = seed;
  return true;
}

TolerantReader TolerantReader::object(std::string_view key) const {
  const json* found = value(key);
  // compat(webui): an empty map comes as [] from languages that have one kind of both.
  const bool nothing = found == nullptr || (found->is_array() && found->empty());
  return {nothing ? kNothing : *found, pointer_of(key), *complaints_};
}

std::vector<const json*> TolerantReader::list(std::string_view key) const {
  std::vector<const json*> elements;
  const json* found = value(key);
  if (found == nullptr) return elements;
  if (!found->is_array()) return {found};
  for (const json& element : *found) elements.push_back(&element);
  return elements;
}

std::string TolerantReader::pointer_of(std::string_view key) const { return fmt::format("{}/{}", pointer_, key); }

void TolerantReader::complain(std::string_view key, std::string message) const {
  complaints_->push_back({pointer_of(key), std::move(message)});
}

}  // namespace darkroom
