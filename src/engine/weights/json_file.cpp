#include "engine/weights/json_file.h"

#include <algorithm>
#include <utility>

#include "base/mapped_file.h"

namespace darkroom::engine {

namespace {

constexpr std::size_t kMaxBytes = 64U << 20;
constexpr int kMaxDepth = 32;

std::string shortened(const nlohmann::json& value) {
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return text;
}

}  // namespace

Result<nlohmann::json> parse_json_object(std::string_view text, const std::string& name) {
  if (text.size() > kMaxBytes) {
    return fail(ErrorCode::corrupt_data, "{}: {} bytes of JSON, the limit is {}", name, text.size(), kMaxBytes);
  }
  bool too_deep = false;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;  // the rest is not kept
  };
  nlohmann::json json = nlohmann::json::parse(text, watch, /*allow_exceptions=*/false);
  if (too_deep) return fail(ErrorCode::corrupt_data, "{}: JSON nested deeper than {} levels", name, kMaxDepth);
  if (json.is_discarded()) return fail(ErrorCode::corrupt_data, "{} is not valid JSON", name);
  if (!json.is_object()) return fail(ErrorCode::corrupt_data, "{} is not a JSON object", name);
  return json;
}

Result<nlohmann::json> read_json_file(const std::filesystem::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return tl::unexpected(std::move(file.error()));
  const auto bytes = (*file)->bytes();
  return parse_json_object({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
}

const nlohmann::json* ConfigReader::present(const char* key) const {
  const auto found = json_.find(key);
  return found == json_.end() || found->is_null() ? nullptr : &*found;
}

void ConfigReader::refuse(ErrorCode code, std::string message) {
  if (!error_) error_ = Error{code, fmt::format("{}: {}", file_, message)};
}

void ConfigReader::wrong_type(const char* key, const char* expected) {
  refuse(ErrorCode::corrupt_data, fmt::format("'{}' is {}, not {}", key, shortened(json_[key]), expected));
}

std::int64_t ConfigReader::in_range(const char* key, const nlohmann::json& value, std::int64_t minimum,
                                    std::int64_t maximum) {
  if (!value.is_number_integer()) {
    wrong_type(key, "a whole number");
    return minimum;
  }
  const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(maximum);
  const auto number = too_large ? maximum : value.get<std::int64_t>();
  if (too_large || number < minimum || number > maximum) {
    refuse(ErrorCode::corrupt_data,
           fmt::format("'{}' is {}, allowed is {} to {}", key, shortened(value), minimum, maximum));
    return minimum;
  }
  return number;
}

std::int64_t ConfigReader::integer(const char* key, std::int64_t fallback, std::int64_t minimum, std::int64_t maximum) {
  const auto* value = present(key);
  return value == nullptr ? fallback : in_range(key, *value, minimum, maximum);
}

std::int64_t ConfigReader::required_integer(const char* key, std::int64_t minimum, std::int64_t maximum) {
  if (present(key) == nullptr) refuse(ErrorCode::corrupt_data, fmt::format("'{}' is missing", key));
  return integer(key, minimum, minimum, maximum);
}

std::vector<std::int64_t> ConfigReader::integers(const char* key, std::size_t repeat, std::int64_t minimum,
                                                 std::int64_t maximum) {
  const auto* value = present(key);
  if (value == nullptr) return {};
  if (!value->is_array()) return std::vector<std::int64_t>(repeat, in_range(key, *value, minimum, maximum));
  if (value->empty() || value->size() > 16) {
    wrong_type(key, "a list of 1 to 16 numbers");
    return {};
  }
  std::vector<std::int64_t> result;
  for (const auto& element : *value) result.push_back(in_range(key, element, minimum, maximum));
  return result;
}

double ConfigReader::number(const char* key, double fallback) {
  const auto* value = present(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) {
    wrong_type(key, "a number");
    return fallback;
  }
  return value->get<double>();
}

std::vector<double> ConfigReader::numbers(const char* key) {
  const auto* value = present(key);
  if (value == nullptr) return {};
  if (!value->is_array() || value->size() > 256 ||
      !std::ranges::all_of(*value, [](const auto& element) { return element.is_number(); })) {
    wrong_type(key, "a list of numbers");
    return {};
  }
  return value->get<std::vector<double>>();
}

bool ConfigReader::boolean(const char* key, bool fallback) {
  const auto* value = present(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    wrong_type(key, "true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string ConfigReader::string(const char* key, std::string fallback) {
  const auto* value = present(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    wrong_type(key, "a string");
    return fallback;
  }
  return value->get<std::string>();
}

std::vector<std::string> ConfigReader::strings(const char* key) {
  const auto* value = present(key);
  if (value == nullptr) return {};
  if (!value->is_array() || value->size() > 16 ||
      !std::ranges::all_of(*value, [](const auto& element) { return element.is_string(); })) {
    wrong_type(key, "a list of strings");
    return {};
  }
  return value->get<std::vector<std::string>>();
}

void ConfigReader::only(const char* key, const std::vector<nlohmann::json>& implemented) {
  const auto* value = present(key);
  if (value == nullptr || std::ranges::find(implemented, *value) != implemented.end()) return;
  std::string list;
  for (const auto& one : implemented) list += (list.empty() ? "" : " or ") + one.dump();
  refuse(ErrorCode::unsupported, fmt::format("'{}' is {}; implemented is {}", key, shortened(*value),
                                             implemented.empty() ? "null only" : list));
}

}  // namespace darkroom::engine
