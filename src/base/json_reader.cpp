#include "base/json_reader.h"

#include <cmath>

namespace darkroom {
namespace {

using nlohmann::json;

const json kNothing = json::object();

// The largest double up to which every whole number is one.
constexpr double kExactWhole = 9007199254740992.0;

bool is_whole(double value) { return std::trunc(value) == value && std::abs(value) <= kExactWhole; }

constexpr std::size_t kMaxComplaints = 100;
constexpr std::size_t kShownKey = 60;  // bytes

bool enough(const std::vector<Complaint>& complaints) { return complaints.size() > kMaxComplaints; }

// What is wrong everywhere is not said for ever.
void add(std::vector<Complaint>& complaints, Complaint complaint) {
  if (enough(complaints)) return;
  const bool last = complaints.size() == kMaxComplaints;
  complaints.push_back(last ? Complaint{"", fmt::format("and more than these {} mistakes", kMaxComplaints)}
                            : std::move(complaint));
}

std::string out_of_range(const json& value, auto low, auto high) {
  return fmt::format("is {}, must be between {} and {}", value.dump(), low, high);
}

}  // namespace

Error as_error(const std::vector<Complaint>& complaints) {
  DR_ASSERT(!complaints.empty());
  std::string message;
  for (const Complaint& complaint : complaints) {
    if (!message.empty()) message += "; ";
    if (!complaint.pointer.empty()) message += complaint.pointer + ": ";
    message += complaint.message;
  }
  return {ErrorCode::invalid_argument, std::move(message)};
}

std::string expected(std::string_view what, const json& found) {
  constexpr std::size_t kShown = 60;
  if (found.is_structured())
    return fmt::format("expected {}, found {}", what, found.is_array() ? "a list" : "an object");
  std::string text = found.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kShown) text = text.substr(0, kShown) + "…";
  return fmt::format("expected {}, found {}", what, text);
}

std::string read_value(const json& value, bool& out) {
  if (!value.is_boolean()) return expected("true or false", value);
  out = value.get<bool>();
  return "";
}

std::string read_value(const json& value, std::string& out) {
  if (!value.is_string()) return expected("a text", value);
  const auto& text = value.get_ref<const std::string&>();
  if (const std::size_t zero = text.find('\0'); zero != std::string::npos) {
    return fmt::format("has a zero character at byte {}", zero);
  }
  out = text;
  return "";
}

std::string read_value(const json& value, double& out) {
  if (!value.is_number()) return expected("a number", value);
  out = value.get<double>();
  return "";
}

std::string read_value(const json& value, float& out) {
  double wide = 0.0;
  if (std::string trouble = read_value(value, wide); !trouble.empty()) return trouble;
  if (std::abs(wide) > std::numeric_limits<float>::max()) {
    return out_of_range(value, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
  }
  out = static_cast<float>(wide);
  return "";
}

std::string read_signed(const json& value, std::int64_t low, std::int64_t high, std::int64_t& out) {
  if (value.is_number_float() && is_whole(value.get<double>())) {
    out = static_cast<std::int64_t>(value.get<double>());
  } else if (value.is_number_unsigned()) {
    const auto wide = value.get<std::uint64_t>();
    if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return out_of_range(value, low, high);
    out = static_cast<std::int64_t>(wide);
  } else if (value.is_number_integer()) {
    out = value.get<std::int64_t>();
  } else {
    return expected("a whole number", value);
  }
  return out < low || out > high ? out_of_range(value, low, high) : "";
}

std::string read_unsigned(const json& value, std::uint64_t high, std::uint64_t& out) {
  if (value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0)) {
    out = value.get<std::uint64_t>();
  } else if (value.is_number_float() && is_whole(value.get<double>()) && value.get<double>() >= 0.0) {
    out = static_cast<std::uint64_t>(value.get<double>());
  } else if (value.is_number_integer()) {
    return out_of_range(value, 0, high);  // negative
  } else {
    return expected("a whole number", value);
  }
  return out > high ? out_of_range(value, 0, high) : "";
}

JsonReader::JsonReader(const json& object, std::string pointer, std::vector<Complaint>& complaints)
    : object_(&object), pointer_(std::move(pointer)), complaints_(&complaints) {
  if (object.is_object()) return;
  object_ = &kNothing;
  add(*complaints_, {pointer_, expected("an object", object)});
}

const json* JsonReader::take(std::string_view key) {
  known_.emplace(key);
  return has(key) ? &object_->find(key).value() : nullptr;
}

std::vector<std::pair<std::string, const json*>> JsonReader::take_rest() {
  std::vector<std::pair<std::string, const json*>> rest;
  for (const auto& [key, value] : object_->items()) {
    if (known_.insert(key).second) rest.emplace_back(key, &value);
  }
  return rest;
}

bool JsonReader::has(std::string_view key) const {
  const auto found = object_->find(key);
  return found != object_->end() && !found->is_null();
}

void JsonReader::complain(std::string_view key, std::string message) {
  add(*complaints_, {pointer_of(key), std::move(message)});
}

void JsonReader::complain_at(std::string_view pointer, std::string message) {
  add(*complaints_, {pointer_ + std::string(pointer), std::move(message)});
}

void JsonReader::finish() {
  const std::vector<std::string> known(known_.begin(), known_.end());
  for (const auto& [key, value] : take_rest()) {
    if (enough(*complaints_)) return;
    const std::string shown = key.substr(0, kShownKey);
    complain(shown, "is not known" + did_you_mean(shown, known));
  }
}

std::string JsonReader::pointer_of(std::string_view key) const {
  std::string pointer = pointer_ + "/";
  for (const char c : key) {
    if (c == '~')
      pointer += "~0";
    else if (c == '/')
      pointer += "~1";
    else
      pointer += c;
  }
  return pointer;
}

}  // namespace darkroom
