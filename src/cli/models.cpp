// darkroom models: what the models directories hold. The worker looks into the files; this program links no engine.
#include <algorithm>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/worker_client.h"

namespace darkroom {
namespace {

std::string human_size(std::uint64_t bytes) {
  return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6)
                               : fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

void print_table(const ModelList& list) {
  std::size_t width = 4;  // of the names
  for (const ModelEntry& model : list.models) width = std::max(width, model.name.size());
  fmt::print("{:<{}}  {:<10}  {:<16}  {:>9}  {}\n", "NAME", width, "KIND", "FORMAT", "SIZE", "TYPES");
  for (const ModelEntry& model : list.models) {
    const std::string last =
        model.problem.empty() ? fmt::format("{}", fmt::join(model.compute_types, ", ")) : model.problem;
    fmt::print("{:<{}}  {:<10}  {:<16}  {:>9}  {}\n", model.name, width, name_of(model.kind), model.format,
               human_size(model.bytes), last);
  }
}

class Models final : public Command {
 public:
  Models() : Command("models") {}

  CLI::App* add(CLI::App& darkroom) override {
    return add_subcommand(darkroom, "List the models in the models directories.");
  }

  int run() override {
    const Result<Config> config = config_.load();
    if (!config) return report(config.error());
    Result<WorkerClient> worker = WorkerClient::start(worker_arguments());
    if (!worker) return report(worker.error());
    const Result<Response> response = worker->ask({name_, ListModels{}}, [](const Event& event) {
      if (const auto* log = std::get_if<Log>(&event.body)) fmt::print(stderr, "{}\n", log->message);
    });
    if (!response) return report(response.error());
    worker->finish();
    if (response->refusal) return report(*response->refusal);
    if (json_) {
      fmt::print("{}\n", encode(*response));
    } else if (const auto* list = std::get_if<ModelList>(&response->data)) {
      print_table(*list);
    }
    return 0;
  }
};

}  // namespace

std::unique_ptr<Command> make_models() { return std::make_unique<Models>(); }

}  // namespace darkroom
