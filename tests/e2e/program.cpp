#include "tests/e2e/program.h"

#include <array>
#include <stdexcept>

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace darkroom {

std::string read_to_end(int fd) {
  std::string text;
  std::array<char, 4096> chunk;
  for (ssize_t count = 0; (count = ::read(fd, chunk.data(), chunk.size())) > 0;) {
    text.append(chunk.data(), static_cast<std::size_t>(count));
  }
  return text;
}

Subprocess start_darkroom(const std::vector<std::string>& arguments) {
  ::setenv("DARKROOM_WORKER", (kBin / "fake-worker").c_str(), 0);
  // A shell joins the outputs and then becomes the program.
  std::vector<std::string> all = {"-c", "exec \"$0\" \"$@\" 2>&1", kBin / "darkroom"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  Result<Subprocess> process = Subprocess::start("/bin/sh", all);
  if (!process) throw std::runtime_error(process.error().message);
  return std::move(*process);
}

Outcome outcome(Subprocess& process) {
  process.close_input();
  std::string output = read_to_end(process.output());
  const std::optional<ExitStatus> status = process.wait(std::chrono::seconds(20));
  if (!status) throw std::runtime_error("the program does not end");
  return {std::move(output), *status};
}

std::string url_of_service(const Subprocess& service) {
  std::string line;
  for (char c = 0; ::read(service.output(), &c, 1) == 1;) {
    if (c != '\n') {
      line += c;
      continue;
    }
    const nlohmann::json said = nlohmann::json::parse(line, nullptr, false);
    if (said.is_object() && said.contains("url")) return said["url"];
    line.clear();
  }
  return "";
}

}  // namespace darkroom
