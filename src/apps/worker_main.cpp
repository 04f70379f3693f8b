// darkroom-worker: makes pictures for a parent that speaks the protocol over its standard input and output.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <omp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "config/config_flags.h"
#include "worker/sandbox.h"
#include "worker/worker.h"

namespace darkroom {
namespace {

constexpr int kUsageError = 2;

// Standard output is the protocol's alone: whatever a library prints goes to standard error.
Fd take_standard_output() {
  std::fflush(stdout);
  Fd output{::dup(STDOUT_FILENO)};
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  return output;
}

// SIGTERM and SIGINT as something to poll. Before any thread is made, since threads inherit the mask.
Fd take_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return Fd{::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK)};
}

// Models are mapped: one that becomes shorter, or whose disk fails, while it is read ends the program. What it was is
// said, since the parent only sees a signal.
void explain_bus_errors() {
  struct sigaction action {};
  action.sa_handler = [](int) {
    constexpr std::string_view kWords =
        "darkroom-worker: a model's file became shorter or could not be read while it was in use\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords.data(), kWords.size());
  };
  action.sa_flags = SA_RESETHAND;  // the read is tried again and then ends the program
  ::sigaction(SIGBUS, &action, nullptr);
}

int run(int argc, char** argv) {
  ConfigFlags flags;
  bool allow_any_path = false;
  CLI::App app("Makes pictures for a parent that speaks the protocol over standard input and output.",
               "darkroom-worker");
  app.set_version_flag("--version", DARKROOM_VERSION);
  flags.add(app);
  app.add_flag("--allow-any-path", allow_any_path,
               "requests may name files outside of these directories: for a parent that is the user himself");
  std::string hashes;
  app.add_option("--model-hashes", hashes, "file of the models' SHA-256, for the parameters in pictures")
      ->type_name("FILE");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsageError;
  }
  Result<Config> config = flags.load();
  if (!config) {
    fmt::print(stderr, "darkroom-worker: {}\n", config.error().message);
    return kUsageError;
  }

  if (!hashes.empty()) config->models.hashes = hashes;

  // Whoever started us is the only one who waits: when he dies, whatever we are in the middle of is in vain. If he is
  // dead already, the end of input says so.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const Fd output = take_standard_output();
  const Fd signals = take_signals();
  explain_bus_errors();
  const auto reach = allow_any_path ? ModelDirectories::Reach::anywhere : ModelDirectories::Reach::inside;
  Worker worker(*config, reach, {.input = STDIN_FILENO, .output = output.get(), .signals = signals.get()});
  if (config->worker.sandbox) {
    // A kernel without seccomp is no reason not to work; that it is missing is said.
    if (const Result<void> entered = enter_sandbox(); !entered) {
      fmt::print(stderr, "darkroom-worker: not isolated: {}\n", entered.error().message);
    }
  }
  worker.run();
  return 0;
}

// All cores of OpenMP's places; none where its threads are not bound to such.
cpu_set_t cores_of_places() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  for (int place = 0; place < ::omp_get_num_places(); ++place) {
    std::vector<int> ids(static_cast<std::size_t>(::omp_get_place_num_procs(place)));
    ::omp_get_place_proc_ids(place, ids.data());
    for (const int id : ids) CPU_SET(id, &cores);
  }
  return cores;
}

// What OpenMP reads once, as the program starts, made to fit the engine's threads. Those that wait for each other must
// sleep, not spin: on a machine with other work a spinning one keeps the one it waits for from running. And none is
// bound: the first thread would be, to one core, and all that it starts would share that one.
void start_with_fitting_threads(char** argv) {
  const cpu_set_t cores = cores_of_places();
  if (CPU_COUNT(&cores) > 0) ::sched_setaffinity(0, sizeof cores, &cores);
  bool again = false;
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) {
    ::setenv("OMP_WAIT_POLICY", "passive", 0);
    again = true;
  }
  for (const char* binds : {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}) {
    again |= std::getenv(binds) != nullptr;
    ::unsetenv(binds);
  }
  if (again) ::execv("/proc/self/exe", argv);  // where this fails, the program runs on, only slower
}

}  // namespace
}  // namespace darkroom

int main(int argc, char** argv) {
  darkroom::start_with_fitting_threads(argv);
  try {
    return darkroom::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "darkroom-worker: {}\n", error.what());
    return 1;
  }
}
