#include "tests/support/worker_program.h"

#include <chrono>
#include <csignal>
#include <fstream>
#include <stdexcept>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/fakes/json_schema.h"

namespace darkroom::test {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxLine = 100'000'000;  // bytes; a test's own picture may be in it

// The schema that a worker's message must fit.
const json& schema_of(const json& message) {
  static const json response = load_schema("enhanced_response_schema");
  static const json event = load_schema("worker_event_schema");
  return message.contains("message_type") ? event : response;
}

Subprocess start(const WorkerSettings& settings) {
  ::signal(SIGPIPE, SIG_IGN);
  const auto config = settings.root / "darkroom.toml";
  std::ofstream(config) << settings.config;
  std::vector<std::string> arguments = {
      "--config", config, "--models", settings.root / "models", "--outputs", settings.root / "outputs"};
  std::filesystem::path program = settings.program;
  if (!settings.limits.empty()) {
    arguments.insert(arguments.begin(), {"-c", settings.limits + "; exec \"$0\" \"$@\"", program});
    program = "/bin/sh";
  }
  Result<Subprocess> process = Subprocess::start(program, arguments);
  if (!process) throw std::runtime_error(process.error().message);
  return std::move(*process);
}

}  // namespace

WorkerProgram::WorkerProgram(const WorkerSettings& settings)
    : process_(start(settings)), reader_(process_.output(), kMaxLine) {
  const json ready = next();
  if (ready.is_null() || ready["message_type"] != "ready") throw std::runtime_error("the worker is not ready");
  pid_ = ready["data"]["pid"];
}

bool WorkerProgram::send_line(std::string_view line) { return LineWriter(process_.input()).write(line).has_value(); }

bool WorkerProgram::send(const std::string& type, const std::string& id, const json& data) {
  return send_line(json{{"message_type", type}, {"request_id", id}, {"data", data}}.dump());
}

json WorkerProgram::next() {
  while (true) {
    if (const std::optional<Received> received = reader_.take()) {
      if (received->kind == Received::Kind::end) return nullptr;
      json message = json::parse(received->text);
      for (const std::string& error : schema_errors(schema_of(message), message)) {
        ADD_FAILURE() << error << " in " << received->text.substr(0, 2000);
      }
      return message;
    }
    reader_.read_some();
  }
}

json WorkerProgram::response() {
  json message = next();
  while (message.contains("message_type")) message = next();
  return message;
}

json WorkerProgram::response_to(const std::string& id) {
  json message = response();
  while (!message.is_null() && message["request_id"] != id) message = response();
  return message;
}

void WorkerProgram::reset_peak() const { std::ofstream(fmt::format("/proc/{}/clear_refs", pid_)) << 5; }

ExitStatus WorkerProgram::finish() {
  process_.close_input();
  while (!next().is_null()) {
  }
  const std::optional<ExitStatus> status = process_.wait(std::chrono::seconds(60));
  if (!status) throw std::runtime_error("the worker does not end");
  return *status;
}

std::uint64_t WorkerProgram::status_field(std::string_view name) const {
  std::ifstream status(fmt::format("/proc/{}/status", pid_));
  std::string key;
  while (status >> key) {
    std::uint64_t kibibytes = 0;
    if (key == name && status >> kibibytes) return kibibytes * 1024;
    status.ignore(1'000, '\n');
  }
  return 0;
}

}  // namespace darkroom::test
