// darkroom doctor: what this machine can do, and what is missing.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/worker_client.h"

namespace darkroom {
namespace {

// The value of the first line "KEY : VALUE" of a file below /proc.
std::string value_in(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || !line.starts_with(key)) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

// The instruction sets that the kernels make use of, of those that this processor has.
std::vector<std::string> instruction_sets() {
  constexpr std::array<std::string_view, 8> kUseful = {"avx2",        "fma",         "f16c",     "avx512f",
                                                       "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"};
  std::istringstream flags(value_in("/proc/cpuinfo", "flags"));
  std::vector<std::string> found;
  for (std::string flag; flags >> flag;) {
    if (std::find(kUseful.begin(), kUseful.end(), flag) != kUseful.end()) found.push_back(flag);
  }
  return found;
}

double gigabytes(std::string_view meminfo_key) {
  return std::strtod(value_in("/proc/meminfo", meminfo_key).c_str(), nullptr) * 1024.0 / 1e9;
}

struct Findings {
  std::string processor;
  unsigned cores = 0;
  std::vector<std::string> instruction_sets;
  double memory_gb = 0.0;
  double memory_free_gb = 0.0;
  std::string device;        // "": the worker does not start
  std::string compute_type;  // the faster one here, which --precision auto takes
  std::size_t models = 0;
  std::vector<std::string> missing;  // what to do something about
};

nlohmann::json to_json(const Findings& findings) {
  return {{"processor", findings.processor},
          {"cores", findings.cores},
          {"instruction_sets", findings.instruction_sets},
          {"memory_gb", findings.memory_gb},
          {"memory_free_gb", findings.memory_free_gb},
          {"device", findings.device},
          {"compute_type", findings.compute_type},
          {"models", findings.models},
          {"missing", findings.missing}};
}

void print(const Findings& findings) {
  fmt::print("processor     {}, {} cores\n", findings.processor, findings.cores);
  fmt::print("instructions  {}\n", fmt::join(findings.instruction_sets, " "));
  fmt::print("memory        {:.1f} GB, {:.1f} GB free\n", findings.memory_gb, findings.memory_free_gb);
  if (findings.device.empty()) {
    fmt::print("device        none\n");
  } else {
    fmt::print("device        {}, fastest in {}\n", findings.device, findings.compute_type);
  }
  fmt::print("models        {}\n", findings.models);
  for (const std::string& missing : findings.missing) fmt::print("missing       {}\n", missing);
}

class Doctor final : public Command {
 public:
  Doctor() : Command("doctor") {}

  CLI::App* add(CLI::App& darkroom) override {
    return add_subcommand(darkroom, "Say what this machine can do and what is missing.");
  }

  int run() override {
    const Result<Config> config = config_.load();
    if (!config) return report(config.error());
    Findings findings{.processor = value_in("/proc/cpuinfo", "model name"),
                      .cores = std::thread::hardware_concurrency(),
                      .instruction_sets = instruction_sets(),
                      .memory_gb = gigabytes("MemTotal"),
                      .memory_free_gb = gigabytes("MemAvailable"),
                      .device = {},
                      .compute_type = {},
                      .models = 0,
                      .missing = {}};
    look_at_outputs(*config, findings);
    if (const Result<void> asked = ask_worker(findings); !asked) findings.missing.push_back(asked.error().message);
    if (json_) {
      fmt::print("{}\n", to_json(findings).dump());
    } else {
      print(findings);
    }
    return 0;
  }

 private:
  static void look_at_outputs(const Config& config, Findings& findings) {
    const std::string& directory = config.outputs.directory;
    std::error_code ignored;
    if (std::filesystem::exists(directory, ignored) && ::access(directory.c_str(), W_OK | X_OK) != 0) {
      findings.missing.push_back("the outputs directory " + directory + " is not writable");
    }
  }

  Result<void> ask_worker(Findings& findings) const {
    Result<WorkerClient> worker = WorkerClient::start(worker_arguments());
    if (!worker) return tl::unexpected(worker.error());
    const Result<Response> response = worker->ask({name_, ListModels{}}, [&](const Event& event) {
      if (const auto* ready = std::get_if<Ready>(&event.body)) {
        findings.device = ready->device;
        findings.compute_type = ready->compute_type;
      }
      if (const auto* log = std::get_if<Log>(&event.body)) findings.missing.push_back(log->message);
    });
    if (!response) return tl::unexpected(response.error());
    worker->finish();
    if (const auto* list = std::get_if<ModelList>(&response->data)) {
      findings.models = list->models.size();
      if (list->models.empty()) findings.missing.emplace_back("models: put checkpoints into a models directory");
      for (const ModelEntry& model : list->models) {
        if (!model.problem.empty()) findings.missing.push_back(model.path + ": " + model.problem);
      }
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<Command> make_doctor() { return std::make_unique<Doctor>(); }

}  // namespace darkroom
