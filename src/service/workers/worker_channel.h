// A line to one worker, wherever it runs. Sending never waits; what comes back comes from a thread of the channel's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "base/subprocess.h"
#include "protocol/codec.h"

namespace darkroom {

// A line that is no message, or was too long to be one.
struct Garbage {
  std::string what;
};

// A worker's end is its last arrival.
using WorkerArrival = std::variant<WorkerMessage, Garbage, ExitStatus>;
using OnArrival = std::function<void(WorkerArrival)>;

class WorkerChannel {
 public:
  WorkerChannel() = default;
  WorkerChannel(const WorkerChannel&) = delete;
  WorkerChannel& operator=(const WorkerChannel&) = delete;
  // Ends the worker, if it still lives, at once.
  virtual ~WorkerChannel() = default;

  // In this order and, if they are small, at once.
  virtual void send(const std::vector<Request>& requests) = 0;
  // Nothing more will be sent: it may finish what it has, and go.
  virtual void close() = 0;
  virtual void terminate() = 0;  // it should go now
  virtual void kill() = 0;       // it goes
};

using StartWorker = std::function<Result<std::unique_ptr<WorkerChannel>>(OnArrival)>;

}  // namespace darkroom
