// Which models there are: their hashes, their names, what comes and goes while the service runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "service/blobs/hash.h"
#include "tests/support/served.h"
#include "tests/support/tiny_models.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

class ModelsTest : public Served {
 protected:
  // A checkpoint of one file.
  fs::path put_checkpoint(const std::string& name) const {
    fs::path file = directory_ / "models" / "checkpoints" / name;
    fs::copy_file(test::tiny_model("tiny-base-single-file"), file, fs::copy_options::overwrite_existing);
    return file;
  }
  static std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  json get(const std::string& path) const { return *parse_json(request(service_->port(), "GET", path).body); }
  RawResponse post(const std::string& path, const json& body) const {
    return request(service_->port(), "POST", path, "", body.dump());
  }
  // Of /sdapi/v1/sd-models; null: it is not there.
  json model(const std::string& name) const {
    for (const json& one : get("/sdapi/v1/sd-models")) {
      if (one["model_name"] == name) return one;
    }
    return nullptr;
  }
  // Without asking for a list, which would have the workers look.
  bool is_known(const std::string& name) const {
    return post("/sdapi/v1/options", {{"sd_model_checkpoint", name}}).status == 200;
  }
};

TEST_F(ModelsTest, T23AModelAnswersToEveryNameThatClientsHaveForIt) {
  const fs::path file = put_checkpoint("Pony.safetensors");
  const std::string sha256 = sha256_hex(text_of(file));
  start();
  until([&] { return model("Pony")["sha256"].is_string(); });
  const json listed = model("Pony");
  EXPECT_EQ(listed["sha256"], sha256);
  EXPECT_EQ(listed["hash"], sha256.substr(0, 10));
  const std::string title = "Pony.safetensors [" + sha256.substr(0, 10) + "]";
  EXPECT_EQ(listed["title"], title);
  std::string upper = sha256;
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  for (const std::string& name :
       {title, std::string("Pony.safetensors"), std::string("Pony"), std::string("pony"),
        std::string("PONY.SAFETENSORS"), sha256.substr(0, 10), sha256, upper, file.string()}) {
    post("/sdapi/v1/options", {{"sd_model_checkpoint", "sdxl"}});
    EXPECT_TRUE(is_known(name)) << name;
    EXPECT_EQ(get("/sdapi/v1/options")["sd_model_checkpoint"], title) << name;
  }
  EXPECT_EQ(get("/sdapi/v1/options")["sd_checkpoint_hash"], sha256);
}

TEST_F(ModelsTest, AHashComesIntoPicturesAndListsAndStays) {
  const fs::path file = put_checkpoint("pony.safetensors");
  const std::string short_hash = sha256_hex(text_of(file)).substr(0, 10);
  start();
  EXPECT_EQ(model("sdxl")["hash"], nullptr);  // a folder has none
  until([&] { return model("pony")["hash"] == short_hash; });
  until([&] { return get("/sdapi/v1/loras")[0]["metadata"].contains("sha256"); });
  const json body = {{"prompt", "a cat"}, {"steps", 1}, {"override_settings", {{"sd_model_checkpoint", "pony"}}}};
  const json info = *parse_json((*parse_json(post("/sdapi/v1/txt2img", body).body))["info"].get<std::string>());
  EXPECT_EQ(info["sd_model_hash"], short_hash);
  EXPECT_THAT(info["infotexts"][0].get<std::string>(), HasSubstr("Model hash: " + short_hash + ", Model: pony"));

  // The next start knows it already.
  service_.reset();
  start();
  EXPECT_EQ(model("pony")["hash"], short_hash);
  // Another file of that name is another model.
  std::string other = text_of(file);
  other.back() = static_cast<char>(other.back() ^ 1);
  std::ofstream(file, std::ios::binary) << other;
  until([&] { return model("pony")["sha256"] == sha256_hex(other); });
}

TEST_F(ModelsTest, ACheckpointIsLoadedAndLetGoOfAsClientsSay) {
  put_checkpoint("pony.safetensors");
  start();
  // Jobs whose model had to be loaded first.
  const auto loads = [&] {
    const std::string all = request(service_->port(), "GET", "/metrics").body;
    const std::string_view name = "\ndarkroom_model_loads_total ";
    return std::stoi(all.substr(all.find(name) + name.size()));
  };
  const json body = {{"prompt", "a cat"}, {"steps", 1}};
  EXPECT_EQ(post("/sdapi/v1/reload-checkpoint", json::object()).body, "null");
  EXPECT_EQ(post("/sdapi/v1/txt2img", body).status, 200);
  EXPECT_EQ(loads(), 0);
  EXPECT_EQ(post("/sdapi/v1/unload-checkpoint", json::object()).body, "null");
  EXPECT_EQ(post("/sdapi/v1/unload-checkpoint", json::object()).body, "null");  // it is gone already
  EXPECT_EQ(post("/sdapi/v1/txt2img", body).status, 200);
  EXPECT_EQ(loads(), 1);
  // A change of options loads too, and does not wait: what waits is asked for after it.
  EXPECT_TRUE(is_known("pony"));
  EXPECT_EQ(post("/sdapi/v1/reload-checkpoint", json::object()).body, "null");
  EXPECT_EQ(post("/sdapi/v1/txt2img", body).status, 200);
  EXPECT_EQ(loads(), 1);
}

TEST_F(ModelsTest, AModelThatIsGoneIsSaidWhenItIsToBeLoaded) {
  config_.models.look_every = 86'400;
  const fs::path file = put_checkpoint("pony.safetensors");
  start();
  until([&] { return is_known("pony"); });
  EXPECT_EQ(post("/sdapi/v1/unload-checkpoint", json::object()).body, "null");
  fs::remove(file);
  const RawResponse gone = post("/sdapi/v1/reload-checkpoint", json::object());
  EXPECT_EQ(gone.status, 404) << gone.body;
  EXPECT_THAT(gone.body, HasSubstr("there is no checkpoint"));
}

TEST_F(ModelsTest, WhatComesAndGoesIsSeenByItself) {
  config_.models.look_every = 1;
  start();
  until([&] { return is_known("sdxl"); });
  EXPECT_FALSE(is_known("late"));
  const fs::path file = put_checkpoint("late.safetensors");
  until([&] { return is_known("late"); });
  fs::remove(file);
  until([&] { return !is_known("late"); });
}

TEST_F(ModelsTest, ASignalHasItLookAtOnce) {
  config_.models.look_every = 86'400;
  start();
  until([&] { return is_known("sdxl"); });
  put_checkpoint("late.safetensors");
  EXPECT_FALSE(is_known("late"));
  service_->reload();
  until([&] { return is_known("late"); });
}

}  // namespace
}  // namespace darkroom
