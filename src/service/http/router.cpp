#include "service/http/router.h"

#include <algorithm>
#include <optional>

#include "base/text.h"

namespace darkroom::http {
namespace {

using Parameters = std::map<std::string, std::string, std::less<>>;

bool is_parameter(std::string_view part) { return part.starts_with('{') && part.ends_with('}'); }

std::optional<Parameters> match(std::string_view pattern, std::string_view path) {
  const std::vector<std::string_view> expected = split(pattern, '/');
  const std::vector<std::string_view> found = split(path, '/');
  if (expected.size() != found.size()) return std::nullopt;
  Parameters parameters;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (is_parameter(expected[i]) && !found[i].empty()) {
      parameters.emplace(expected[i].substr(1, expected[i].size() - 2), found[i]);
    } else if (expected[i] != found[i]) {
      return std::nullopt;
    }
  }
  return parameters;
}

bool serves(const Route& route, std::string_view method) {
  return route.method == method || (method == "HEAD" && route.method == "GET");
}

}  // namespace

bool is_below(std::string_view path, std::string_view prefix) {
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

void Router::add(Route route) {
  for (const Route& other : routes_) DR_ASSERT(other.method != route.method || other.pattern != route.pattern);
  routes_.push_back(std::move(route));
}

void Router::format_problems(std::string path, ProblemFormat format) {
  formats_.emplace_back(std::move(path), std::move(format));
}

Router::Match Router::find(std::string_view method, std::string_view path) const {
  Match best;
  for (const Route& route : routes_) {
    std::optional<Parameters> parameters = match(route.pattern, path);
    if (!parameters) continue;
    best.methods.push_back(route.method);
    if (!serves(route, method)) continue;
    if (best.route != nullptr && parameters->size() >= best.parameters.size()) continue;
    best.route = &route;
    best.parameters = std::move(*parameters);
  }
  std::sort(best.methods.begin(), best.methods.end());
  best.methods.erase(std::unique(best.methods.begin(), best.methods.end()), best.methods.end());
  return best;
}

const ProblemFormat& Router::problem_format(std::string_view path) const {
  static const ProblemFormat usual = problem_json;
  for (const auto& [prefix, format] : formats_) {
    if (is_below(path, prefix)) return format;
  }
  return usual;
}

}  // namespace darkroom::http
