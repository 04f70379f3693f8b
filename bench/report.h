// What a run found: a line for its reader at once, and everything for --json at the end.
#pragma once

#include <cstdio>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace darkroom::bench {

class Report {
 public:
  // peak: GFLOP/s that the shares are of.
  explicit Report(double peak) : peak_(peak) {}

  // A timed piece of arithmetic.
  void pass(const std::string& name, double seconds, double gflop) {
    const double rate = gflop / seconds;
    line("{:<34} {:9.3f} s {:9.1f} GFLOP {:8.1f} GFLOP/s {:6.1f} % of peak", name, seconds, gflop, rate,
         100 * rate / peak_);
    json["passes"].push_back({{"name", name},
                              {"seconds", seconds},
                              {"gflop", gflop},
                              {"gflops_per_second", rate},
                              {"share_of_peak", rate / peak_}});
  }

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::print("{}\n", fmt::format(format, std::forward<Args>(args)...));
    static_cast<void>(std::fflush(stdout));
  }

  nlohmann::json json = nlohmann::json::object();

 private:
  double peak_;
};

}  // namespace darkroom::bench
