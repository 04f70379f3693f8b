#include "cli/command.h"

#include <CLI/CLI.hpp>

#include "protocol/codec.h"

namespace darkroom {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return kExitUsage;
    case ErrorCode::not_found:
      return 3;
    case ErrorCode::unsupported:
      return 4;
    case ErrorCode::corrupt_data:
      return 5;
    case ErrorCode::out_of_memory:
    case ErrorCode::overloaded:
      return 6;
    case ErrorCode::timed_out:
      return 7;
    case ErrorCode::worker_lost:
      return 8;
    case ErrorCode::cancelled:
      return 130;  // as shells show Ctrl-C
    case ErrorCode::conflict:
    case ErrorCode::internal:
      return 1;
  }
  DR_ASSERT(false);
}

CLI::App* Command::add_subcommand(CLI::App& darkroom, const std::string& description) {
  CLI::App* app = darkroom.add_subcommand(name_, description);
  config_.add(*app);
  app->add_flag("--json", json_, "print one machine-readable result on standard output")->group("Settings");
  app->footer(kExitCodesHelp);
  return app;
}

std::vector<std::string> Command::worker_arguments() const {
  std::vector<std::string> arguments = config_.arguments();
  arguments.emplace_back("--allow-any-path");
  return arguments;
}

int Command::report(const Refusal& refusal) const {
  if (json_) {
    Response response;
    response.request_id = name_;
    response.refusal = refusal;
    fmt::print("{}\n", encode(response));
  } else if (refusal.complaints.empty()) {
    fmt::print(stderr, "darkroom {}: {}\n", name_, refusal.error.message);
  } else {
    fmt::print(stderr, "darkroom {}:\n", name_);
    for (const Complaint& complaint : refusal.complaints) {
      fmt::print(stderr, "  {}: {}\n", complaint.pointer, complaint.message);
    }
  }
  return exit_code(refusal.error.code);
}

}  // namespace darkroom
