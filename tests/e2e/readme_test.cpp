// What the README tells a new user to type, typed.
#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/e2e/program.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Its lines that begin a request, as a shell takes them.
std::vector<std::string> curl_lines() {
  std::vector<std::string> lines;
  std::ifstream readme(fs::path(DARKROOM_SOURCE_DIR) / "README.md");
  for (std::string line; std::getline(readme, line);) {
    if (line.starts_with("    curl ")) lines.push_back(line.substr(4));
  }
  return lines;
}

TEST(Readme, EachOfItsRequestsLeavesAPicture) {
  if (::access("/usr/bin/curl", X_OK) != 0) GTEST_SKIP() << "curl is not here";
  const fs::path root = fs::path(testing::TempDir()) / fmt::format("readme_{}", ::getpid());
  fs::create_directories(root / "models" / "model");
  std::ofstream(root / "models/model/model_index.json") << R"({"_class_name": "StableDiffusionXLPipeline"})";
  Subprocess service = start_darkroom({"serve", "--listen", "127.0.0.1:0", "--data", root / "data", "--models",
                                       root / "models", "--outputs", root / "outputs"});
  const std::string url = url_of_service(service);
  ASSERT_FALSE(url.empty());
  const std::vector<std::string> lines = curl_lines();
  ASSERT_EQ(lines.size(), 3U);
  for (std::string line : lines) {
    const std::string place = "localhost:7860";
    line.replace(line.find(place), place.size(), url.substr(url.find("//") + 2));
    // As soon as it is ready, as a person would who has read the first line.
    const std::string script =
        fmt::format("cd {} && until curl -sf {}/readyz >/dev/null; do sleep 0.05; done; {}", root.string(), url, line);
    Result<Subprocess> shell = Subprocess::start("/bin/sh", {"-c", script});
    ASSERT_TRUE(shell);
    EXPECT_EQ(outcome(*shell).status.code, 0) << line;
  }
  for (const char* picture : {"native.png", "webui.png", "openai.png"}) {
    EXPECT_TRUE(text_of(root / picture).starts_with("\x89PNG")) << picture;
  }
  service.send_signal(SIGTERM);
  outcome(service);
  fs::remove_all(root);
}

}  // namespace
}  // namespace darkroom
