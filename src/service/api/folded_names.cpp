#include "service/api/folded_names.h"

#include <map>
#include <string>

#include "base/text.h"

namespace darkroom {
namespace {

using nlohmann::json;

std::string folded(std::string_view name) {
  std::string result = to_lower(name);
  std::erase(result, '_');
  return result;
}

using Names = std::map<std::string, std::string_view, std::less<>>;

json renamed(const json& value, const Names& names, const std::string& pointer, std::vector<Complaint>& complaints) {
  json out = value;
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      out[i] = renamed(value[i], names, fmt::format("{}/{}", pointer, i), complaints);
    }
  } else if (value.is_object()) {
    out = json::object();
    for (const auto& [key, inner] : value.items()) {
      const auto found = names.find(folded(key));
      const std::string name(found == names.end() ? std::string_view(key) : found->second);
      const std::string at = fmt::format("{}/{}", pointer, name);
      if (out.contains(name)) complaints.push_back({at, "is given twice"});
      out[name] = renamed(inner, names, at, complaints);
    }
  }
  return out;
}

}  // namespace

json with_folded_names(const json& document, std::span<const std::string_view> names,
                       std::vector<Complaint>& complaints) {
  Names by_folded;
  for (const std::string_view name : names) by_folded.emplace(folded(name), name);
  return renamed(document, by_folded, "", complaints);
}

}  // namespace darkroom
