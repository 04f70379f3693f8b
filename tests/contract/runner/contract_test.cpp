// Every client's case, against an open service, one with keys, and one behind a path prefix; each request and answer is
// also held against openapi.json. The first run also writes client-matrix.md into the build folder: which client makes
// which call.
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "service/auth/key_file.h"
#include "tests/contract/runner/description.h"
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
  void SetUp() override {
    Served::SetUp();
    config_.http.cors_origins = {"https://lite.koboldai.net"};
  }

  using Matrix = std::map<std::string, std::set<std::string>>;  // call → clients
  Matrix play_all(const contract::Place& place) {
    Matrix matrix;
    for (const auto& [name, client] : all_clients()) {
      for (const contract::Played& played : contract::play(client, place)) {
        const std::string where = fmt::format("{}, {}, {}", name, played.step, played.call);
        EXPECT_TRUE(played.troubles.empty()) << where << fmt::format("\n  {}", fmt::join(played.troubles, "\n  "));
        if (played.exchanged.method.empty()) continue;  // nothing was answered yet
        EXPECT_THAT(description_.violations(played.exchanged), testing::IsEmpty()) << where;
        if (played.troubles.empty()) matrix[played.call].insert(client["client"]);
      }
    }
    EXPECT_FALSE(matrix.empty());
    return matrix;
  }

  const contract::Description description_;
};

TEST_F(Contract, HoldsOnAnOpenService) {
  start();
  const Matrix matrix = play_all({.port = service_->port()});
  std::ofstream out(kBuild / "client-matrix.md");
  out << "| Call | Clients |\n|---|---|\n";
  Matrix shown;
  const std::regex variable("\\$\\{[^}]*\\}");
  for (const auto& [call, clients] : matrix) {
    if (call.find(" ${") != std::string::npos) continue;  // a link that an answer had
    shown[std::regex_replace(call, variable, "{id}")].insert(clients.begin(), clients.end());
  }
  for (const auto& [call, clients] : shown) out << fmt::format("| {} | {} |\n", call, fmt::join(clients, ", "));
}

TEST_F(Contract, IsDescribedAsItIsServed) {
  start();
  const std::set<std::pair<std::string, std::string>> served(service_->routes().begin(), service_->routes().end());
  EXPECT_EQ(served, description_.operations());
  for (const auto& [method, pattern] : served) {
    std::string path = pattern;
    for (std::size_t at = 0; (at = path.find('{')) != std::string::npos;)
      path.replace(at, path.find('}') - at + 1, "0");
    const contract::Exchanged exchanged{
        .method = method, .path = path, .body = nullptr, .answer = request(service_->port(), method, path)};
    EXPECT_THAT(description_.violations(exchanged), testing::IsEmpty()) << method << ' ' << path;
  }
}

TEST_F(Contract, HasACaseForEachOfTheTolerances) {
  constexpr int kTolerances = 36;
  std::set<int> seen;
  const std::regex number("T([0-9]+)\\b");
  for (const auto& [name, client] : all_clients()) {
    for (const json& step : client["steps"]) {
      const std::string title = step.value("name", "");
      for (std::sregex_iterator at(title.begin(), title.end(), number); at != std::sregex_iterator(); ++at) {
        seen.insert(std::stoi((*at)[1]));
      }
    }
  }
  for (int i = 1; i <= kTolerances; ++i) EXPECT_TRUE(seen.contains(i)) << "T" << i;
}

// Or the tests above would hold of everything.
TEST_F(Contract, TheDescriptionIsHeldAgainstWhatIsSaid) {
  const auto answered = [](int status, const std::string& body) {
    return RawResponse{
        .status = status, .head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", .body = body};
  };
  const auto violations = [&](const std::string& method, const std::string& path, const json& body,
                              const RawResponse& answer) {
    return description_.violations({.method = method, .path = path, .body = body, .answer = answer}).size();
  };
  EXPECT_EQ(violations("GET", "/controlnet/version", nullptr, answered(200, R"({"version":3})")), 0U);
  EXPECT_EQ(violations("GET", "/controlnet/version", nullptr, answered(200, R"({"version":"3"})")), 1U);
  EXPECT_EQ(violations("GET", "/controlnet/version", nullptr, answered(200, R"({"version":3,"x":1})")), 1U);
  EXPECT_EQ(violations("GET", "/controlnet/version", nullptr, answered(418, "{}")), 1U);
  EXPECT_EQ(violations("GET", "/controlnet/version", nullptr, answered(200, "{")), 1U);
  EXPECT_EQ(violations("GET", "/controlnet/version", json::object(), answered(200, R"({"version":3})")), 1U);
  EXPECT_EQ(violations("POST", "/sdapi/v1/options", {{"sd_vae", 1}}, answered(200, "null")), 1U);
  EXPECT_EQ(violations("POST", "/sdapi/v1/options", {{"sd_vae", "x"}}, answered(200, "null")), 0U);
  EXPECT_EQ(violations("GET", "/nothing", nullptr, answered(404, "{}")), 0U);
  EXPECT_EQ(violations("GET", "/nothing", nullptr, answered(200, "{}")), 1U);
  const json pictures = {
      {"images", json::array()}, {"parameters", json::object()}, {"info", "{}"}, {"warnings", json::array()}};
  EXPECT_GT(violations("POST", "/sdapi/v1/txt2img", {{"prompt", "x"}}, answered(200, pictures.dump())), 5U);
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
