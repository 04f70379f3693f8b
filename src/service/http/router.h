// Which handler a path and a method mean.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "service/http/message.h"
#include "service/http/problem.h"

namespace darkroom::http {

// Runs on one of a few threads that may wait for the disk, not for a job: that is what Later is for.
using Handler = std::function<Answer(const Request&)>;

// Whether a request takes one of its key's requests a minute.
enum class Cost : std::uint8_t { free, counted };

struct Route {
  std::string method;
  std::string pattern;  // "/v1/jobs/{id}": a part in braces is any one part
  Scope scope = Scope::read;
  Cost cost = Cost::free;
  Handler handler;
};

class Router {
 public:
  // Two routes of one method and one pattern are our mistake.
  void add(Route route);
  // How errors below a path ("/sdapi") are worded, also those of the server itself.
  void format_problems(std::string path, ProblemFormat format);

  struct Match {
    const Route* route = nullptr;                                // nothing: no such path, or not with this method
    std::map<std::string, std::string, std::less<>> parameters;  // by the names in braces
    std::vector<std::string> methods;                            // that the path has; none: no such path
  };
  // A path with more literal parts wins. HEAD finds a GET.
  Match find(std::string_view method, std::string_view path) const;
  const ProblemFormat& problem_format(std::string_view path) const;

  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;
  std::vector<std::pair<std::string, ProblemFormat>> formats_;
};

// Whether `path` is `prefix` or lies below it.
bool is_below(std::string_view path, std::string_view prefix);

}  // namespace darkroom::http
