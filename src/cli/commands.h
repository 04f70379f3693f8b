// The subcommands of `darkroom`.
#pragma once

#include <memory>
#include <vector>

#include "cli/command.h"

namespace darkroom {

std::unique_ptr<Command> make_generate();
std::unique_ptr<Command> make_models();
std::unique_ptr<Command> make_doctor();
std::unique_ptr<Command> make_serve();
std::unique_ptr<Command> make_keys();
std::unique_ptr<Command> make_jobs();

// Parses the command line and runs what it names; gives the exit code.
int run_darkroom(int argc, const char* const* argv);

}  // namespace darkroom
