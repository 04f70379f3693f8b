// The command line's end of the protocol: starts a worker, asks it, listens.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "protocol/codec.h"
#include "protocol/line_channel.h"

namespace darkroom {

// $DARKROOM_WORKER, or darkroom-worker beside this program.
Result<std::filesystem::path> worker_program();

class WorkerClient {
 public:
  // Starts the worker. From then on SIGINT and SIGTERM are ours.
  static Result<WorkerClient> start(const std::vector<std::string>& arguments);

  WorkerClient(WorkerClient&&) = default;

  // Sends a request and waits for its response; every event goes to `on_event` meanwhile. The first Ctrl-C cancels the
  // request, a second one kills the worker. Error worker_lost tells how the process ended.
  Result<Response> ask(const Request& request, const std::function<void(const Event&)>& on_event);
  // Lets the worker end by itself, or kills it after some seconds.
  void finish();

 private:
  WorkerClient(Subprocess process, Fd signals);
  void on_signal(const std::string& request_id);
  Error lost();

  Subprocess process_;
  Fd signals_;
  LineReader reader_;
  int interrupts_ = 0;
};

}  // namespace darkroom
