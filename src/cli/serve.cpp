// darkroom serve: the service, until a signal ends it.
#include <csignal>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/worker_client.h"
#include "service/service.h"

namespace darkroom {
namespace {

// Blocked here, and with that in every thread that is started later, so that only wait_for_end() sees them.
sigset_t take_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

void wait_for_end(const sigset_t& signals, Service& service) {
  int signal = 0;
  while (::sigwait(&signals, &signal) == 0 && signal == SIGHUP) service.reload();
}

class Serve final : public Command {
 public:
  Serve() : Command("serve") {}

  CLI::App* add(CLI::App& darkroom) override {
    CLI::App* app = add_subcommand(darkroom,
                                   "Serve pictures over HTTP. SIGTERM and Ctrl-C let running jobs end, SIGHUP reads "
                                   "certificates and looks for models again.");
    config_.add_service(*app);
    app->add_flag("--insecure-no-auth", no_auth_, "serve anybody who reaches the service, without a key")
        ->group("Settings");
    return app;
  }

  int run() override {
    Result<Config> config = config_.load();
    if (!config) return report(config.error());
    if (no_auth_) config->http.insecure_no_auth = true;
    const Result<std::filesystem::path> worker = worker_program();
    if (!worker) return report(worker.error());
    const sigset_t signals = take_signals();
    Result<std::unique_ptr<Service>> service =
        Service::start({.config = std::move(*config), .worker = *worker, .worker_arguments = config_.arguments()});
    if (!service) return report(service.error());
    wait_for_end(signals, **service);
    (*service)->drain();
    return 0;
  }

 private:
  bool no_auth_ = false;
};

}  // namespace

std::unique_ptr<Command> make_serve() { return std::make_unique<Serve>(); }

}  // namespace darkroom
