// Small JSON files of a model folder, and typed reading of their values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace darkroom::engine {

// An object of at most 64 MB and 32 levels. Errors: not_found, corrupt_data.
Result<nlohmann::json> read_json_file(const std::filesystem::path& path);
Result<nlohmann::json> parse_json_object(std::string_view text, const std::string& name);

// Reads values by key and remembers the first that does not do; ask error() at the end. null counts as absent.
class ConfigReader {
 public:
  // `file` is what messages call it.
  ConfigReader(const nlohmann::json& json, std::string file) : json_(json), file_(std::move(file)) {}

  std::int64_t integer(const char* key, std::int64_t fallback, std::int64_t minimum, std::int64_t maximum);
  std::int64_t required_integer(const char* key, std::int64_t minimum, std::int64_t maximum);
  // A list; or one number, which stands for `repeat` equal ones. Empty if absent.
  std::vector<std::int64_t> integers(const char* key, std::size_t repeat, std::int64_t minimum, std::int64_t maximum);
  double number(const char* key, double fallback);
  std::vector<double> numbers(const char* key);
  bool boolean(const char* key, bool fallback);
  std::string string(const char* key, std::string fallback);
  std::vector<std::string> strings(const char* key);
  // Refuses, as unsupported, a value that is present, not null, and none of those that the engine implements.
  void only(const char* key, const std::vector<nlohmann::json>& implemented);

  void refuse(ErrorCode code, std::string message);  // "FILE: message"
  const std::optional<Error>& error() const { return error_; }

 private:
  const nlohmann::json* present(const char* key) const;
  void wrong_type(const char* key, const char* expected);
  std::int64_t in_range(const char* key, const nlohmann::json& value, std::int64_t minimum, std::int64_t maximum);

  const nlohmann::json& json_;
  std::string file_;
  std::optional<Error> error_;
};

}  // namespace darkroom::engine
