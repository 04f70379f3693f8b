// What the subcommands of `darkroom` share: their flags, how they report, what they exit with.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "config/config_flags.h"
#include "protocol/messages.h"

namespace CLI {
class App;
}

namespace darkroom {

inline constexpr const char* kExitCodesHelp =
    "Exit codes: 0 done, 1 internal error, 2 wrong option or value, 3 model or file not found, 4 not supported,\n"
    "5 damaged file, 6 out of memory, 7 time limit, 8 the worker died, 130 cancelled.";

constexpr int kExitUsage = 2;

int exit_code(ErrorCode code);

class Command {
 public:
  explicit Command(std::string name) : name_(std::move(name)) {}
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  // Adds the subcommand with its flags.
  virtual CLI::App* add(CLI::App& darkroom) = 0;
  // Does it, and gives the exit code.
  virtual int run() = 0;

 protected:
  CLI::App* add_subcommand(CLI::App& darkroom, const std::string& description);
  // The worker is the user's own: he may name any file of his.
  std::vector<std::string> worker_arguments() const;
  // Says why the command did not do its work: on standard error, or with --json on standard output.
  int report(const Refusal& refusal) const;
  int report(const Error& error) const { return report(Refusal{error, {}}); }

  std::string name_;
  ConfigFlags config_;
  bool json_ = false;  // one machine-readable result on standard output
};

}  // namespace darkroom
