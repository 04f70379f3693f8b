#include <CLI/CLI.hpp>

#include "cli/commands.h"

namespace darkroom {

int run_darkroom(int argc, const char* const* argv) {
  CLI::App app("Image generation with Stable Diffusion XL on your own machine.", "darkroom");
  app.set_version_flag("--version", "darkroom " DARKROOM_VERSION);
  app.require_subcommand(1);
  app.footer(kExitCodesHelp);

  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(make_generate());
  commands.push_back(make_serve());
  commands.push_back(make_jobs());
  commands.push_back(make_keys());
  commands.push_back(make_models());
  commands.push_back(make_doctor());
  int result = 0;
  for (const auto& command : commands) {
    command->add(app)->callback([&result, chosen = command.get()] { result = chosen->run(); });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  return result;
}

}  // namespace darkroom
