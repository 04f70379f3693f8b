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

// The last two are the service's.
constexpr std::size_t kCommon = 4;
constexpr std::array<Row, 6> kRows = {{
    {"--models", "models.directories", "DIR", "models directory; repeatable; also DARKROOM_MODELS=DIR:DIR", true},
    {"--outputs", "outputs.directory", "DIR", "directory that pictures are written to [outputs]"},
    {"--device", "worker.device", "NAME", "cpu, or ref: slow, for comparison [cpu]"},
    {"--threads", "worker.threads", "N", "threads that compute; 0: one a core [0]"},
    {"--listen", "http.listen", "HOST:PORT", "where to be reached [127.0.0.1:7860]"},
    {"--data", "service.data", "DIR", "directory of the jobs, their pictures and the API keys [data]"},
}};

constexpr const char* kGroup = "Settings";

void add_row(CLI::App& app, const Row& row, std::vector<std::string>& values) {
  CLI::Option* option = row.repeatable
                            ? app.add_option(row.flag, values, row.help)->allow_extra_args(false)
                            : app.add_option_function<std::string>(
                                  row.flag, [&values](const std::string& value) { values = {value}; }, row.help);
  option->type_name(row.placeholder)->group(kGroup);
}

}  // namespace

void ConfigFlags::add(CLI::App& app) {
  for (std::size_t i = 0; i < kCommon; ++i) add_row(app, kRows[i], values_[i]);
  app.add_option("--config", file_, "settings file; config/darkroom.example.toml lists the keys")
      ->type_name("FILE")
      ->group(kGroup);
}

void ConfigFlags::add_service(CLI::App& app) {
  for (std::size_t i = kCommon; i < kRows.size(); ++i) add_row(app, kRows[i], values_[i]);
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
  for (std::size_t i = 0; i < kCommon; ++i) {
    for (const std::string& value : values_[i]) arguments.insert(arguments.end(), {kRows[i].flag, value});
  }
  if (!file_.empty()) arguments.insert(arguments.end(), {"--config", file_});
  return arguments;
}

}  // namespace darkroom
