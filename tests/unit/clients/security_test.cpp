// What a stranger may try against the whole service. Elsewhere: oversized and slow bodies, header floods, smuggled
// requests, foreign pages and rebound names in tests/unit/http, key timing in tests/unit/auth, bombs of each format in
// tests/unit/image and tests/unit/metadata, links in clients_test.cpp, the worker's sandbox in tests/e2e.
#include <array>
#include <bitset>
#include <set>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <zlib.h>

#include "base/json_text.h"
#include "base/text.h"
#include "service/auth/key_file.h"
#include "tests/support/served.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class Security : public Served {
 protected:
  RawResponse ask(const std::string& method, const std::string& path, const std::string& headers = "",
                  const json& body = nullptr) const {
    return request(service_->port(), method, path, headers, body.is_null() ? "" : body.dump());
  }
  RawResponse post(const std::string& path, const json& body) const { return ask("POST", path, "", body); }
  static json body_of(const RawResponse& response) {
    const Result<json> body = parse_json(response.body);
    EXPECT_TRUE(body) << response.status << response.body;
    return body ? *body : json();
  }
  bool is_alive() const { return ask("GET", "/readyz").status == 200; }
};

// --- Decompression bombs ---

std::string big_endian(std::uint32_t number) {
  std::string bytes;
  for (const int shift : {24, 16, 8, 0}) bytes += static_cast<char>(number >> shift & 0xFFU);
  return bytes;
}

std::string chunk(const std::string& type, const std::string& body) {
  const std::string typed = type + body;
  const uLong crc = ::crc32(0, reinterpret_cast<const Bytef*>(typed.data()), static_cast<uInt>(typed.size()));
  return big_endian(static_cast<std::uint32_t>(body.size())) + typed + big_endian(static_cast<std::uint32_t>(crc));
}

std::string packed(const std::string& bytes) {
  uLongf size = ::compressBound(bytes.size());
  std::string out(size, '\0');
  ::compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  return out.substr(0, size);
}

// A PNG of this size in gray whose pixels are not all there: few bytes that ask for many.
std::string png_of(std::uint32_t side, const std::string& more = "") {
  const std::string head = big_endian(side) + big_endian(side) + std::string("\x08\0\0\0\0", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", head) + more + chunk("IDAT", packed(std::string(1'000'000, '\0'))) +
         chunk("IEND", "");
}

TEST_F(Security, APictureThatUnpacksToTooMuchIsRefused) {
  start();
  for (const std::uint32_t side : {30'000U, 200'000U, 0x7FFFFFFFU}) {
    const std::string bomb = encode_base64(png_of(side));
    ASSERT_LT(bomb.size(), 10'000U);
    const json asked = {{"prompt", "a"},
                        {"image", bomb},
                        {"init_images", {bomb}},
                        {"controlnet_input_images", {bomb}},
                        {"upscaler_1", "Lanczos"}};
    for (const char* path : {"/sdapi/v1/img2img", "/sdapi/v1/extra-single-image", "/sdapi/v1/png-info",
                             "/controlnet/detect", "/v1/images/edits", "/v1/images/variations"}) {
      const RawResponse refused = post(path, asked);
      EXPECT_THAT(refused.status, AnyOf(400, 422)) << path << refused.body;
      EXPECT_THAT(refused.body, HasSubstr("the limit is 16384 a side")) << path << side;
    }
  }
  EXPECT_TRUE(is_alive());
}

// The worker, which decodes, trusts no size that a file tells.
TEST_F(Security, APictureThatHoldsMoreThanItSaysIsRefused) {
  start();
  const RawResponse refused = post(
      "/controlnet/detect", {{"controlnet_module", "canny"}, {"controlnet_input_images", {encode_base64(png_of(64))}}});
  EXPECT_THAT(refused.status, AnyOf(200, 422)) << refused.body;  // libpng leaves what is too much
  EXPECT_LT(refused.body.size(), 2'000'000U);
  EXPECT_TRUE(is_alive());
}

TEST_F(Security, ATextThatUnpacksToTooMuchIsRefused) {
  start();
  const std::string text = std::string("parameters\0\0", 12) + packed(std::string(200'000'000, 'x'));
  ASSERT_LT(text.size(), 300'000U);
  const RawResponse read = post("/sdapi/v1/png-info", {{"image", encode_base64(png_of(8, chunk("zTXt", text)))}});
  EXPECT_EQ(read.status, 422);
  EXPECT_THAT(read.body, HasSubstr("longer than 4194304 bytes"));
  EXPECT_TRUE(is_alive());
}

// --- JSON ---

TEST_F(Security, NoRouteFollowsJsonToAnyDepth) {
  start();
  for (const auto& [method, pattern] : service_->routes()) {
    if (method != "POST") continue;
    for (const std::string& deep :
         {std::string(200'000, '['), std::string("{\"prompt\":") + std::string(200'000, '[')}) {
      const RawResponse refused = request(service_->port(), "POST", pattern, "", deep);
      const bool reads_none = pattern.find("refresh-") != std::string::npos ||
                              pattern.find("load-checkpoint") != std::string::npos || pattern.ends_with("/interrupt") ||
                              pattern.ends_with("/skip");
      if (reads_none || pattern == "/api/sdxl/validate") {
        EXPECT_EQ(refused.status, 200) << pattern;
      } else {
        EXPECT_THAT(refused.status, AnyOf(400, 422)) << pattern;
        EXPECT_THAT(refused.body, HasSubstr("nested deeper")) << pattern;
      }
    }
  }
  EXPECT_TRUE(is_alive());
}

// --- Paths ---

TEST_F(Security, NoNameLeadsOutOfItsDirectory) {
  start();
  const auto refused = [&](const std::string& path, const json& body) {
    const RawResponse response = post(path, body);
    EXPECT_THAT(response.status, AnyOf(400, 404, 422)) << path << body << response.body;
    EXPECT_THAT(response.body, Not(HasSubstr("root:"))) << path << body;
  };
  for (const char* name : {"../../../../../../etc/passwd", "/etc/passwd", "..", "a/../../x", "..\\..\\x"}) {
    refused("/sdapi/v1/options", {{"sd_model_checkpoint", name}});
    refused("/sdapi/v1/txt2img", {{"prompt", "a"}, {"override_settings", {{"sd_vae", name}}}});
    refused("/sdapi/v1/txt2img", {{"prompt", std::string("a <lora:") + name + ":1>"}});
    refused("/api/sdxl/generate", {{"model", {{"base", name}}}, {"conditioning", {{"prompt", "a"}}}});
    const json job = body_of(ask("POST", "/v1/jobs", "Prefer: wait=60\r\n",
                                 {{"prompt", "a"}, {"model_name", name}, {"num_inference_steps", 1}}));
    EXPECT_EQ(job["status"], "failed") << name;
    if (std::string_view(name).find('\\') != std::string_view::npos) continue;  // to a file a letter like any other
    refused("/v1/jobs",
            {{"prompt", "a"}, {"model_name", "sdxl"}, {"output", {{"save_path", std::string(name) + "/x.png"}}}});
  }
  for (const char* path : {"/v1/jobs/..%2f..%2fsecret", "/v1/pictures/..%2f..%2fkeys.json/0/x", "/v1/models/..%2fx",
                           "/docs/../keys.json", "/schemas/..%2f..%2fkeys.json"}) {
    EXPECT_THAT(ask("GET", path).status, AnyOf(400, 404)) << path;
  }
}

TEST_F(Security, NoUrlIsFetched) {
  start();
  // Somebody listens where the URL leads: nobody must come.
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string url = fmt::format("http://127.0.0.1:{}/picture.png", ntohs(address.sin_port));
  EXPECT_EQ(post("/sdapi/v1/img2img", {{"prompt", "a"}, {"init_images", {url}}}).status, 422);
  EXPECT_EQ(post("/sdapi/v1/png-info", {{"image", url}}).status, 422);
  EXPECT_EQ(post("/controlnet/detect", {{"controlnet_input_images", {url}}}).status, 422);
  EXPECT_EQ(post("/v1/images/edits", {{"prompt", "a"}, {"image", url}}).status, 400);
  EXPECT_THAT(post("/v1/jobs", {{"prompt", "a"}, {"model_name", "sdxl"}, {"init_image", url}}).status, AnyOf(202, 400));
  until([&] {
    const json jobs = body_of(ask("GET", "/v1/jobs"))["jobs"];
    return jobs.empty() || jobs[0]["status"] == "failed";
  });
  EXPECT_EQ(::accept(listener.get(), nullptr, nullptr), -1);
}

// --- Ids ---

TEST_F(Security, IdsCannotBeGuessed) {
  config_.service.queue = 1000;
  start();
  constexpr int kJobs = 96;
  constexpr std::size_t kBits = 128;
  std::set<std::string> ids;
  std::bitset<kBits> ever_one;
  std::bitset<kBits> ever_zero;
  for (int i = 0; i < kJobs; ++i) {
    const RawResponse taken = post("/v1/jobs", {{"prompt", "a"}, {"model_name", "sdxl"}, {"num_inference_steps", 1}});
    ASSERT_EQ(taken.status, 202);
    const std::string id = body_of(taken)["id"];
    ASSERT_EQ(id.size(), kBits / 4);
    ASSERT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
    ids.insert(id);
    for (std::size_t bit = 0; bit < kBits; ++bit) {
      const std::size_t digit = std::string_view("0123456789abcdef").find(id[bit / 4]);
      (digit >> bit % 4 & 1U ? ever_one : ever_zero).set(bit);
    }
  }
  // No two are alike, and no bit is always the same: neither counter nor clock is in them. By chance a fair bit is
  // the same 96 times once in 2^95.
  EXPECT_EQ(ids.size(), static_cast<std::size_t>(kJobs));
  EXPECT_TRUE(ever_one.all()) << ever_one;
  EXPECT_TRUE(ever_zero.all()) << ever_zero;
}

// --- Secrets ---

TEST_F(Security, NoSecretComesBack) {
  const auto key = KeyFile(config_.service.data).add({.name = "client"});
  ASSERT_TRUE(key) << key.error().message;
  start();
  const std::string headers = "Authorization: Bearer " + key->secret + "\r\n";
  const json body = {{"prompt", "a"}, {"steps", 1}, {"auth", "user:hush"}, {"api_key", "hush"}, {"url", "http://hush"}};
  for (const char* path : {"/sdapi/v1/txt2img", "/v1/images/generations"}) {
    const RawResponse answer = ask("POST", path, headers, body);
    EXPECT_EQ(answer.status, 200) << answer.body;
    EXPECT_THAT(answer.body, Not(HasSubstr("hush"))) << path;
  }
  for (const char* path : {"/v1/jobs", "/metrics", "/sdapi/v1/options", "/v1/nothing"}) {
    const RawResponse answer = ask("GET", path, headers);
    EXPECT_THAT(answer.head + answer.body, Not(HasSubstr(key->secret))) << path;
    EXPECT_THAT(answer.body, Not(HasSubstr("hush"))) << path;
  }
}

}  // namespace
}  // namespace darkroom
