// Reading the bodies of clients that nobody can change: unknown keys are ignored, null and "" are absent, numbers may
// be texts and whole numbers fractions, which are cut. What cannot be understood is still complained about, by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/json_reader.h"

namespace darkroom {

class TolerantReader {
 public:
  // `object` must outlive the reader. Something that is no object is complained about, and then has no keys.
  TolerantReader(const nlohmann::json& object, std::string pointer, std::vector<Complaint>& complaints);

  // There, and neither null nor "".
  bool has(std::string_view key) const { return value(key) != nullptr; }
  const nlohmann::json* value(std::string_view key) const;

  // Each leaves `out` as it is where the key is absent, and answers whether it has set it.
  bool text(std::string_view key, std::string& out) const;
  bool flag(std::string_view key, bool& out) const;  // also 0 and 1, "true" and "false"
  bool whole(std::string_view key, int& out, int low, int high) const;
  bool number(std::string_view key, float& out, float low, float high) const;
  // −1 asks for a random one, as absence does, which `out` then holds already.
  bool seed(std::string_view key, std::uint64_t& out) const;

  // The object under a key; an empty one where there is none.
  TolerantReader object(std::string_view key) const;
  // The elements of a list; none where there is none. A single value, for lists of one.
  std::vector<const nlohmann::json*> list(std::string_view key) const;

  std::string pointer_of(std::string_view key) const;
  void complain(std::string_view key, std::string message) const;
  std::vector<Complaint>& complaints() const { return *complaints_; }

 private:
  std::optional<double> read_number(std::string_view key) const;

  const nlohmann::json* object_;
  std::string pointer_;
  std::vector<Complaint>* complaints_;
};

}  // namespace darkroom
