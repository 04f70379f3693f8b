// darkroom: the command line.
#include <exception>

#include <fmt/format.h>

#include "cli/commands.h"

int main(int argc, char** argv) {
  try {
    return darkroom::run_darkroom(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "darkroom: {}\n", error.what());
    return 1;
  }
}
