// Every client's case, against an open service, one with keys, and one behind a path prefix. The first run also writes
// client-matrix.md into the build folder: which client makes which call.
#include <fstream>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "service/auth/key_file.h"
#include "tests/contract/runner/player.h"
#include "tests/support/served.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kBuild = DARKROOM_BINARY_DIR;

std::vector<std::pair<std::string, json>> all_clients() {
  std::vector<std::pair<std::string, json>> clients;
  for (const auto& entry : fs::directory_iterator(fs::path(DARKROOM_SOURCE_DIR) / "tests" / "contract" / "clients")) {
    std::ifstream in(entry.path());
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const Result<json> client = parse_json(text);
    EXPECT_TRUE(client) << entry.path() << ": " << client.error().message;
    if (client) clients.emplace_back(entry.path().stem().string(), *client);
  }
  std::sort(clients.begin(), clients.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  return clients;
}

class Contract : public Served {
 protected:
  using Matrix = std::map<std::string, std::set<std::string>>;  // call → clients
  Matrix play_all(const contract::Place& place) {
    Matrix matrix;
    for (const auto& [name, client] : all_clients()) {
      for (const contract::Played& played : contract::play(client, place)) {
        EXPECT_TRUE(played.troubles.empty()) << name << ", " << played.step << ", " << played.call << "\n  "
                                             << fmt::format("{}", fmt::join(played.troubles, "\n  "));
        if (played.troubles.empty()) matrix[played.call].insert(client["client"]);
      }
    }
    EXPECT_FALSE(matrix.empty());
    return matrix;
  }
};

TEST_F(Contract, HoldsOnAnOpenService) {
  start();
  const Matrix matrix = play_all({.port = service_->port()});
  std::ofstream out(kBuild / "client-matrix.md");
  out << "| Call | Clients |\n|---|---|\n";
  for (const auto& [call, clients] : matrix) {
    if (call.find("${") == std::string::npos) out << fmt::format("| {} | {} |\n", call, fmt::join(clients, ", "));
  }
}

TEST_F(Contract, HoldsWithKeys) {
  const auto key = KeyFile(config_.service.data).add({.name = "client"});
  ASSERT_TRUE(key) << key.error().message;
  start();
  play_all({.port = service_->port(), .key = key->secret});
}

TEST_F(Contract, HoldsBehindAPathPrefix) {
  config_.http.path_prefix = "/darkroom";
  start();
  play_all({.port = service_->port(), .prefix = "/darkroom"});
}

}  // namespace
}  // namespace darkroom
