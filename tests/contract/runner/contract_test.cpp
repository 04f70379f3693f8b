// Every client's case, against an open service, one with keys, and one behind a path prefix. The first run also writes
// client-matrix.md into the build folder: which client makes which call.
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "service/auth/key_file.h"
#include "service/service.h"
#include "tests/contract/runner/player.h"
#include "tests/support/fast_directory.h"
#include "tests/support/raw_client.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path kBuild = DARKROOM_BINARY_DIR;

void write_file(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// One float: what a file of some role needs to be one.
std::string tiny_safetensors() {
  const std::string header = R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  std::string size(8, '\0');
  size[0] = static_cast<char>(header.size());
  return size + header + std::string(4, '\0');
}

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

class Contract : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("contract");
    fs::remove_all(directory_);
    const fs::path models = directory_ / "models";
    // What tells a folder apart is enough for a worker that looks into none.
    write_file(models / "checkpoints" / "sdxl" / "model_index.json", R"({"_class_name": "StableDiffusionXLPipeline"})");
    write_file(models / "checkpoints" / "refiner" / "model_index.json",
               R"({"_class_name": "StableDiffusionXLImg2ImgPipeline"})");
    for (const char* file :
         {"loras/watercolor", "vaes/fixed", "controlnets/canny-xl", "embeddings/badhands", "upscalers/4x-UltraSharp"}) {
      write_file(models / (std::string(file) + ".safetensors"), tiny_safetensors());
    }
    config_.service.data = (directory_ / "data").string();
    config_.outputs.directory = (directory_ / "outputs").string();
    config_.http.listen = "127.0.0.1:0";
    config_.http.log_level = "error";
    fs::create_directories(config_.service.data);
  }
  void TearDown() override {
    service_.reset();
    fs::remove_all(directory_);
  }

  void start() {
    Result<std::unique_ptr<Service>> service =
        Service::start({.config = config_,
                        .worker = kBuild / "bin" / "fake-worker",
                        .worker_arguments = {"--models", (directory_ / "models").string()}});
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
    // Until a worker has said what models there are.
    while (request(service_->port(), "GET", "/readyz").status != 200)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

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

  fs::path directory_;
  Config config_;
  std::unique_ptr<Service> service_;
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
