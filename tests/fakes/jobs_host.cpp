// A service to be killed: starts the core on a data directory, submits jobs, prints their ids, and stays.
//   jobs-host DATA WORKER PROMPT...
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>
#include <unistd.h>

#include "service/jobs/jobs.h"

int main(int argc, char** argv) {
  using namespace darkroom;
  if (argc < 3) return 2;
  JobsOptions options;
  options.service.data = argv[1];
  options.outputs = std::filesystem::path(argv[1]).parent_path() / "outputs";
  options.worker = argv[2];
  options.log = [](LogLevel, const std::string&) {};
  options.webhook_secret = [](const std::string&) { return std::nullopt; };
  const Result<std::unique_ptr<Jobs>> jobs = Jobs::start(options);
  if (!jobs) return 3;
  for (int i = 3; i < argc; ++i) {
    Submission submission;
    submission.spec.model = "m";
    submission.spec.prompt = argv[i];
    submission.spec.seed = 7;
    submission.spec.steps = 20;
    const Result<Submitted> submitted = (*jobs)->submit(submission);
    if (!submitted) return 4;
    fmt::print("{}\n", submitted->job.id);
    std::fflush(stdout);
  }
  while (true) ::pause();
}
