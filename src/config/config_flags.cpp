#include "config/config_flags.h"

#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <unistd.h>

namespace darkroom {
namespace {

struct Row {
  const char* flag;
  const char* key;
  const char* placeholder;
  const char* help;
  bool repeatable = false;
};

constexpr std::array<Row, 4> kRows = {{
    {"--models", "models.directories", "DIR", "models directory; repeatable; also DARKROOM_MODELS=DIR:DIR", true},
    {"--outputs", "outputs.directory", "DIR", "directory that pictures are written to [outputs]"},
    {"--device", "worker.device", "NAME", "cpu, or ref: slow, for comparison [cpu]"},
    {"--threads", "worker.threads", "N", "threads that compute; 0: one a core [0]"},
}};

constexpr const char* kGroup = "Settings";

}  // namespace

void ConfigFlags::add(CLI::App& app) {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    std::vector<std::string>& values = values_[i];
    CLI::Option* option =
        kRows[i].repeatable
            ? app.add_option(kRows[i].flag, values, kRows[i].help)->allow_extra_args(false)
            : app.add_option_function<std::string>(
                  kRows[i].flag, [&values](const std::string& value) { values = {value}; }, kRows[i].help);
    option->type_name(kRows[i].placeholder)->group(kGroup);
  }
  app.add_option("--config", file_, "settings file; config/darkroom.example.toml lists the keys")
      ->type_name("FILE")
      ->group(kGroup);
}

Result<Config> ConfigFlags::load() const {
  std::vector<Setting> settings = settings_from_environment(environ);
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (values_[i].empty()) continue;
    settings.push_back({kRows[i].key, fmt::format("{}", fmt::join(values_[i], ":")), kRows[i].flag});
  }
  return load_config(file_.empty() ? std::nullopt : std::optional(file_), settings);
}

std::vector<std::string> ConfigFlags::arguments() const {
  std::vector<std::string> arguments;
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    for (const std::string& value : values_[i]) arguments.insert(arguments.end(), {kRows[i].flag, value});
  }
  if (!file_.empty()) arguments.insert(arguments.end(), {"--config", file_});
  return arguments;
}

}  // namespace darkroom
