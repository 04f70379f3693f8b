// darkroom generate: one request, from the command line to files.
#include <algorithm>
#include <utility>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/generate_flags.h"
#include "cli/progress_bar.h"
#include "cli/worker_client.h"
#include "spec/generation_codec.h"

namespace darkroom {
namespace {

constexpr const char* kRequestId = "generate";
constexpr std::string_view kDataPointer = "/data";  // before the pointers of a worker's complaints

class Generate final : public Command {
 public:
  Generate() : Command("generate") {}

  CLI::App* add(CLI::App& darkroom) override {
    CLI::App* app = add_subcommand(darkroom, "Make pictures from a prompt.");
    flags_.add_text_to_image(*app);
    flags_.add_steering(*app);
    return app;
  }

  int run() override {
    const Result<Config> config = config_.load();
    if (!config) return report(config.error());
    auto request = request_from_flags(config->limits);
    if (!request) return report(request.error());

    Result<WorkerClient> worker = WorkerClient::start(worker_arguments());
    if (!worker) return report(worker.error());
    ProgressBar bar(STDERR_FILENO);
    Result<Response> response = worker->ask({kRequestId, std::move(*request)}, [&](const Event& event) {
      if (const auto* progress = std::get_if<Progress>(&event.body)) bar.show(*progress);
    });
    bar.clear();
    if (!response) return report(response.error());
    worker->finish();
    return report_response(std::move(*response));
  }

 private:
  tl::expected<GenerationRequest, Refusal> request_from_flags(const Limits& limits) const {
    std::vector<Complaint> complaints;
    nlohmann::json data = flags_.data(complaints);
    if (!data.contains("output") || !data["output"].contains("save_path"))
      complaints.push_back({"--output", "is required"});
    // Who waits at a terminal has Ctrl-C.
    data["metadata"]["timeout"] = limits.max_timeout;
    auto request = decode_generation(data, limits);
    if (!request) {
      // A flag whose value had not even the right form is missing from the data: one complaint about it is enough.
      const std::vector<Complaint> malformed = complaints;
      for (Complaint& complaint : flags_.in_flags(std::move(request.error()))) {
        const auto same_flag = [&](const Complaint& other) { return other.pointer == complaint.pointer; };
        if (std::none_of(malformed.begin(), malformed.end(), same_flag)) complaints.push_back(std::move(complaint));
      }
    }
    if (complaints.empty()) return std::move(*request);
    Error error = as_error(complaints);
    return tl::unexpected(Refusal{std::move(error), std::move(complaints)});
  }

  int report_response(Response response) const {
    if (response.refusal) {
      for (Complaint& complaint : response.refusal->complaints) {
        if (complaint.pointer.starts_with(kDataPointer)) complaint.pointer.erase(0, kDataPointer.size());
      }
      response.refusal->complaints = flags_.in_flags(std::move(response.refusal->complaints));
      return report(*response.refusal);
    }
    for (const std::string& warning : response.warnings) fmt::print(stderr, "warning: {}\n", warning);
    if (json_) {
      fmt::print("{}\n", encode(response));
    } else if (const auto* generated = std::get_if<Generated>(&response.data)) {
      for (const GeneratedImage& image : generated->generated_images) {
        fmt::print("{} ({}x{}, seed {})\n", image.path, image.width, image.height, image.seed);
      }
    }
    return 0;
  }

  GenerateFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_generate() { return std::make_unique<Generate>(); }

}  // namespace darkroom
