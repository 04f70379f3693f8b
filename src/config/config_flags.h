// The flags that name settings: the same for every program, and passed on from one to the next.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/config.h"

namespace CLI {
class App;
}

namespace darkroom {

class ConfigFlags {
 public:
  void add(CLI::App& app);
  // Those that the service and what belongs to it have besides.
  void add_service(CLI::App& app);

  // The file that --config names, the environment, the flags.
  Result<Config> load() const;
  // What this program was given, for a worker.
  std::vector<std::string> arguments() const;

 private:
  std::string file_;
  std::array<std::vector<std::string>, 6> values_;  // in the order of the table in the .cpp
};

}  // namespace darkroom
