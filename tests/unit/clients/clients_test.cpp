// What the clients' routes do beyond single answers, which tests/contract has: whose job is whose, and what becomes of
// a job whose client goes away.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "base/text.h"
#include "engine/image/codec.h"
#include "service/auth/key_file.h"
#include "service/blobs/ticket.h"
#include "tests/support/served.h"

namespace darkroom {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// Three seconds, if it is let.
const json kSlow = {{"prompt", "slow"}, {"steps", 150}, {"width", 256}, {"height", 256}, {"seed", -1}};
const json kQuick = {{"prompt", "a cat"}, {"steps", 2}, {"width", 256}, {"height", 256}};

class ClientsTest : public Served {
 protected:
  std::string make_key(const char* name, std::vector<Scope> scopes = {Scope::generate}) const {
    const auto key = KeyFile(config_.service.data).add({.name = name, .scopes = std::move(scopes)});
    EXPECT_TRUE(key) << key.error().message;
    return "Authorization: Bearer " + key->secret + "\r\n";
  }
  RawResponse ask(const std::string& method, const std::string& path, const std::string& headers = "",
                  const json& body = nullptr) const {
    return request(service_->port(), method, path, headers, body.is_null() ? "" : body.dump());
  }
  static json body_of(const RawResponse& response) {
    const Result<json> body = parse_json(response.body);
    EXPECT_TRUE(body) << response.status << response.body;
    return body ? *body : json();
  }
  // Sends a request and leaves its answer to be read.
  RawClient begin(const std::string& path, const std::string& headers, const json& body) const {
    RawClient client(service_->port());
    const std::string text = body.dump();
    EXPECT_TRUE(client.send(fmt::format("POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}Content-Length: {}\r\n\r\n{}", path,
                                        headers, text.size(), text)));
    return client;
  }
  json progress(const std::string& headers = "") const { return body_of(ask("GET", "/sdapi/v1/progress", headers)); }
  void until_at_work(const std::string& headers = "") const {
    until([&] { return progress(headers)["state"]["sampling_step"] > 0; });
  }
  json jobs(const std::string& headers = "") const { return body_of(ask("GET", "/v1/jobs", headers))["jobs"]; }
  int count(const std::string& status, const std::string& headers = "") const {
    int found = 0;
    for (const json& job : jobs(headers)) found += job["status"] == status ? 1 : 0;
    return found;
  }
};

TEST_F(ClientsTest, T7ProbesAreAnsweredWithoutAWorker) {
  config_.service.model = "";
  start();
  until([&] { return ask("GET", "/sdapi/v1/sd-models").status == 200; });
  // One that hangs answers nothing any more, not even what models there are.
  RawClient hanging = begin("/sdapi/v1/txt2img", "", {{"prompt", "hang"}, {"steps", 1}});
  until([&] { return count("running") == 1; });
  for (const char* probe : {"memory", "cmd-flags", "options", "samplers", "progress", "schedulers", "scripts"}) {
    EXPECT_EQ(ask("GET", std::string("/sdapi/v1/") + probe).status, 200) << probe;
  }
  EXPECT_EQ(ask("GET", "/queue/status").status, 200);
  EXPECT_EQ(ask("GET", "/v1/models").status, 200);
}

TEST_F(ClientsTest, T34ProgressAndInterruptAreTheCallersOwn) {
  const std::string alice = make_key("alice");
  const std::string bob = make_key("bob");
  start();
  RawClient waiting = begin("/sdapi/v1/txt2img", alice, kSlow);
  until_at_work(alice);
  EXPECT_NE(progress(alice)["state"]["job"], "");
  EXPECT_EQ(progress(bob)["state"]["job"], "");
  EXPECT_EQ(progress(bob)["state"]["job_count"], 0);
  EXPECT_EQ(ask("POST", "/sdapi/v1/interrupt", bob).status, 200);
  EXPECT_EQ(progress(alice)["state"]["interrupted"], false);
  EXPECT_EQ(ask("POST", "/sdapi/v1/interrupt", alice).status, 200);
  const RawResponse answer = waiting.read();
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(body_of(answer)["images"], json::array());
  EXPECT_EQ(count("cancelled", alice), 1);
  EXPECT_EQ(progress(alice)["state"]["job_count"], 0);
}

TEST_F(ClientsTest, T34OptionsAreTheCallersOwn) {
  const std::string alice = make_key("alice");
  const std::string bob = make_key("bob");
  start();
  EXPECT_EQ(ask("POST", "/sdapi/v1/options", alice, {{"sd_model_checkpoint", "refiner"}}).body, "null");
  EXPECT_EQ(body_of(ask("GET", "/sdapi/v1/options", alice))["sd_model_checkpoint"], "refiner");
  EXPECT_EQ(body_of(ask("GET", "/sdapi/v1/options", bob))["sd_model_checkpoint"], "sdxl");
}

TEST_F(ClientsTest, T35ADroppedConnectionCancelsWhatIsQueuedAndFinishesWhatRuns) {
  start();
  RawClient running = begin("/sdapi/v1/txt2img", "", kSlow);
  until_at_work();
  RawClient queued = begin("/sdapi/v1/txt2img", "", kQuick);
  until([&] { return count("queued") == 1; });
  queued.hang_up();
  until([&] { return count("cancelled") == 1; });
  running.hang_up();
  until([&] { return count("succeeded") == 1; });
}

TEST_F(ClientsTest, T36TheSameRequestAfterADroppedConnectionJoinsItsJob) {
  start();
  RawClient dropped = begin("/sdapi/v1/txt2img", "", kSlow);
  until_at_work();
  dropped.hang_up();
  // Until the service has noticed, it is a request of its own.
  until([&] { return progress()["state"]["job_count"] == 0; });
  const RawResponse answer = ask("POST", "/sdapi/v1/txt2img", "", kSlow);
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(body_of(answer)["images"].size(), 1U);
  EXPECT_EQ(jobs().size(), 1U);
  EXPECT_EQ(*parse_json(body_of(answer)["info"].get<std::string>()).map([](const json& info) { return info["seed"]; }),
            jobs()[0]["images"][0]["seed"]);
}

TEST_F(ClientsTest, T36EqualRequestsSideBySideAreSeparateJobs) {
  start();
  RawClient one = begin("/sdapi/v1/txt2img", "", kQuick);
  RawClient other = begin("/sdapi/v1/txt2img", "", kQuick);
  EXPECT_EQ(one.read().status, 200);
  EXPECT_EQ(other.read().status, 200);
  EXPECT_EQ(jobs().size(), 2U);
}

TEST_F(ClientsTest, OpenaisRetryJoinsItsJob) {
  start();
  const json body = {{"prompt", "slow"}, {"steps", 100}, {"size", "256x256"}};
  RawClient dropped = begin("/v1/images/generations", "", body);
  until([&] { return count("running") == 1; });
  dropped.hang_up();
  // The service notices in its own time; a retry that comes before that is a request of its own, as any.
  const std::string retry = "x-stainless-retry-count: 1\r\n";
  until([&] { return count("succeeded") == 1; });
  const RawResponse answer = ask("POST", "/v1/images/generations", retry, body);
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(jobs().size(), 1U);
}

TEST_F(ClientsTest, ManyPicturesOfOneRequestAreSeveralJobsAndOneAnswer) {
  start();
  json body = kQuick;
  body["batch_size"] = 4;
  body["n_iter"] = 3;
  body["seed"] = 100;
  const json answer = body_of(ask("POST", "/sdapi/v1/txt2img", "", body));
  EXPECT_EQ(answer["images"].size(), 12U);
  const json info = *parse_json(answer["info"].get<std::string>());
  for (int i = 0; i < 12; ++i) EXPECT_EQ(info["all_seeds"][i], 100 + i);
  EXPECT_EQ(jobs().size(), 2U);
}

TEST_F(ClientsTest, TheSpecificationsRequestIsAnsweredAsItSays) {
  start();
  const json asked = {{"Model", {{"Base", "sdxl"}}},
                      {"conditioning", {{"prompt", "a cat"}}},
                      {"hyperparameters", {{"seed", 7}, {"width", 256}, {"height", 256}, {"batchSize", 2}}},
                      {"output", {{"quality", 300}}}};
  const RawResponse response = ask("POST", "/api/sdxl/generate", "", asked);
  ASSERT_EQ(response.status, 200) << response.body;
  const json answer = body_of(response);
  EXPECT_EQ(answer["success"], true);
  ASSERT_EQ(answer["data"]["generatedImages"].size(), 2U);
  EXPECT_EQ(answer["data"]["generatedImages"][1]["seed"], 8);
  EXPECT_THAT(answer["warnings"].dump(), HasSubstr("quality is 300"));
  std::string url = answer["data"]["generatedImages"][0]["url"];
  url.erase(0, std::string("http://127.0.0.1").size());
  const RawResponse picture = ask("GET", url);
  EXPECT_EQ(picture.status, 200);
  EXPECT_EQ(picture.header("Content-Type"), "image/png");

  const RawResponse refused = ask("POST", "/api/sdxl/generate", "", json::object());
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(body_of(refused)["success"], false);
  EXPECT_EQ(body_of(refused)["error"],
            "Request validation failed: Prompt is required and cannot be empty, Base model is required");
  EXPECT_EQ(body_of(ask("POST", "/api/sdxl/validate", "", asked))["workerType"], "enhanced_sdxl_worker");
  const RawResponse failed =
      ask("POST", "/api/sdxl/generate", "", {{"model", {{"base", "sdxl"}}}, {"conditioning", {{"prompt", "fail"}}}});
  EXPECT_EQ(failed.status, 422);
  EXPECT_EQ(body_of(failed)["error"], "Processing failed: the fake engine was asked to fail");
}

TEST_F(ClientsTest, TheJobsRouteTakesTheSpecificationsRequestToo) {
  start();
  const json asked = {{"model", {{"base", "sdxl"}}}, {"conditioning", {{"prompt", "a cat"}}}};
  EXPECT_EQ(ask("POST", "/v1/jobs", "", asked).status, 202);
}

// An 8 by 8 picture, black on the left and white on the right.
std::string half_white() {
  engine::Image image(8, 8, 3);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = i / 3 % 8 < 4 ? 0 : 255;
  const engine::Bytes png = engine::encode_png(image).value();
  return {reinterpret_cast<const char*>(png.data()), png.size()};
}

TEST_F(ClientsTest, ControlPicturesAreMadeByThemselves) {
  start();
  const std::string picture = half_white();
  json asked = {{"controlnet_module", "invert"},
                {"controlnet_input_images", {encode_base64(picture), encode_base64(picture)}},
                {"controlnet_processor_res", -1}};
  const json inverted = body_of(ask("POST", "/controlnet/detect", "", asked));
  ASSERT_EQ(inverted["images"].size(), 2U) << inverted.dump();
  const std::string png = decode_base64(inverted["images"][1].get<std::string>()).value();
  const engine::Image image = engine::decode_image(std::as_bytes(std::span(png))).value();
  ASSERT_EQ(image.width, 8);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) ASSERT_EQ(image.pixels[i], i / 3 % 8 < 4 ? 255 : 0) << i;
  EXPECT_EQ(jobs().size(), 2U);

  asked["controlnet_module"] = "none";
  EXPECT_EQ(body_of(ask("POST", "/controlnet/detect", "", asked))["images"][0], encode_base64(picture));
  asked["controlnet_module"] = "openpose";
  const RawResponse unknown = ask("POST", "/controlnet/detect", "", asked);
  EXPECT_EQ(unknown.status, 422);
  EXPECT_THAT(unknown.body, HasSubstr("/controlnet_module"));
  EXPECT_THAT(unknown.body, HasSubstr("lineart_standard"));
  EXPECT_THAT(ask("POST", "/controlnet/detect").body, HasSubstr("/controlnet_input_images: is required"));
}

TEST_F(ClientsTest, ALineOfPixelsBecomesNoHugeControlPicture) {
  start();
  const engine::Bytes png = engine::encode_png(engine::Image(2000, 1, 3)).value();
  const std::string line(reinterpret_cast<const char*>(png.data()), png.size());
  const RawResponse refused = ask("POST", "/controlnet/detect", "",
                                  {{"controlnet_module", "canny"}, {"controlnet_input_images", {encode_base64(line)}}});
  EXPECT_EQ(refused.status, 422) << refused.body;
  EXPECT_THAT(refused.body, HasSubstr("2000×1"));
}

TEST_F(ClientsTest, ALinkHoldsForItsPictureAndUntilItsTime) {
  const std::string key = make_key("client");
  start();
  json asked = kQuick;
  asked["size"] = "256x256";
  asked["response_format"] = "url";
  asked["n"] = 2;
  const json answer = body_of(ask("POST", "/v1/images/generations", key, asked));
  std::string link = answer["data"][0]["url"];
  link.erase(0, std::string("http://127.0.0.1").size());  // "/v1/pictures/ID/0/TICKET"
  const std::vector<std::string_view> parts = split(link, '/');
  ASSERT_EQ(parts.size(), 6U) << link;
  const std::string id(parts[3]);
  const std::string ticket(parts[5]);
  const auto status = [&](const std::string& job, int picture, const std::string& with) {
    return ask("GET", fmt::format("/v1/pictures/{}/{}/{}", job, picture, with)).status;
  };
  EXPECT_EQ(status(id, 0, ticket), 200);
  EXPECT_EQ(status(id, 1, ticket), 404);  // another picture
  EXPECT_EQ(status(std::string(id.rbegin(), id.rend()), 0, ticket), 404);
  for (std::size_t i = 0; i < ticket.size(); ++i) {
    std::string changed = ticket;
    changed[i] = changed[i] == '1' ? '2' : '1';
    EXPECT_EQ(status(id, 0, changed), 404) << i;
  }
  EXPECT_EQ(status(id, 0, ticket.substr(1)), 404);
  EXPECT_EQ(status(id, 0, ticket.substr(0, ticket.size() - 1)), 404);
  EXPECT_EQ(status(id, 0, "0"), 404);

  // As the service issued them some time ago.
  const auto office = TicketOffice::open(std::filesystem::path(config_.service.data) / "secret");
  ASSERT_TRUE(office) << office.error().message;
  const auto now = std::chrono::system_clock::now();
  EXPECT_EQ(status(id, 0, office->issue(id + "/0", now + std::chrono::hours(1))), 200);
  EXPECT_EQ(status(id, 0, office->issue(id + "/0", now - std::chrono::seconds(2))), 404);
  // A later time does not fit the signature.
  std::string longer = office->issue(id + "/0", now - std::chrono::hours(1));
  longer.replace(0, longer.find('.'), ticket.substr(0, ticket.find('.')));
  EXPECT_EQ(status(id, 0, longer), 404);
  // What is gone is gone, whatever the link.
  EXPECT_EQ(ask("DELETE", "/v1/jobs/" + id + "?remove=true", key).status, 204);
  EXPECT_EQ(status(id, 0, ticket), 404);
}

// --- How far it is, as pictures ---

bool is_jpeg(const json& base64) {
  const auto bytes = base64.is_string() ? decode_base64(base64.get<std::string>()) : tl::unexpected(Error{});
  return bytes && engine::decode_image(std::as_bytes(std::span(*bytes))) && bytes->starts_with("\xFF\xD8\xFF");
}

TEST_F(ClientsTest, ProgressShowsThePictureThatBecomes) {
  start();
  EXPECT_EQ(progress()["current_image"], nullptr);
  RawClient waiting = begin("/sdapi/v1/txt2img", "", kSlow);
  until([&] { return !progress()["current_image"].is_null(); });
  EXPECT_TRUE(is_jpeg(progress()["current_image"]));
  EXPECT_EQ(body_of(ask("GET", "/sdapi/v1/progress?skip_current_image=true"))["current_image"], nullptr);
  ask("POST", "/sdapi/v1/interrupt");
  EXPECT_EQ(waiting.read().status, 200);
  EXPECT_EQ(progress()["current_image"], nullptr);
}

// The events of a stream by their names.
std::vector<std::pair<std::string, json>> events_of(const std::string& stream) {
  std::vector<std::pair<std::string, json>> events;
  std::string name;
  for (const std::string_view line : split(stream, '\n')) {
    if (line.starts_with("event: ")) name = line.substr(7);
    if (line.starts_with("data: {")) events.emplace_back(name, *parse_json(line.substr(6)));
  }
  return events;
}

TEST_F(ClientsTest, AStreamHasAsManyPartialImagesAsWereAskedFor) {
  start();
  const json asked = {{"prompt", "slow"}, {"stream", true},    {"partial_images", 2},
                      {"steps", 60},      {"size", "256x256"}, {"seed", 7}};
  const RawResponse response = ask("POST", "/v1/images/generations", "", asked);
  const auto events = events_of(response.body);
  ASSERT_EQ(events.size(), 3U) << response.body;
  for (int i = 0; i < 2; ++i) {
    const auto& [name, data] = events[static_cast<std::size_t>(i)];
    EXPECT_EQ(name, "image_generation.partial_image");
    EXPECT_EQ(data["type"], name);
    EXPECT_EQ(data["partial_image_index"], i);
    EXPECT_EQ(data["output_format"], "jpeg");
    EXPECT_TRUE(is_jpeg(data["b64_json"]));
  }
  EXPECT_EQ(events[2].first, "image_generation.completed");
  EXPECT_EQ(events[2].second["usage"]["total_tokens"], 0);
  EXPECT_THAT(response.body, HasSubstr("data: [DONE]"));
  json without = asked;
  without.erase("partial_images");
  EXPECT_EQ(events_of(ask("POST", "/v1/images/generations", "", without).body).size(), 1U);
}

TEST_F(ClientsTest, AJobsEventsHavePreviewsWhereItsRequestAsksForThem) {
  start();
  const json native = {
      {"prompt", "slow"}, {"model_name", "sdxl"}, {"num_inference_steps", 100}, {"output", {{"preview_every", 5}}}};
  const json specifications = {{"model", {{"base", "sdxl"}}},
                               {"conditioning", {{"prompt", "slow"}}},
                               {"scheduler", {{"steps", 100}}},
                               {"output", {{"previewEvery", 5}}}};
  for (const json& asked : {native, specifications}) {
    const json job = body_of(ask("POST", "/v1/jobs", "", asked));
    int previews = 0;
    for (const auto& [name, data] : events_of(ask("GET", "/v1/jobs/" + job.value("id", "?") + "/events").body)) {
      if (name != "preview") continue;
      ++previews;
      EXPECT_EQ(data["format"], "jpeg");
      EXPECT_TRUE(is_jpeg(data["data"]));
    }
    EXPECT_GE(previews, 1) << asked.dump();  // events may be missing where a client reads slowly
    EXPECT_LE(previews, 20);
  }
}

TEST_F(ClientsTest, FilesOfTheMachineAreItsOwnersAlone) {
  const std::string key = make_key("client");
  start();
  const json asked = {
      {"model", {{"base", "sdxl"}}}, {"conditioning", {{"prompt", "a cat"}}}, {"init_image", "/etc/hostname"}};
  const RawResponse refused = ask("POST", "/api/sdxl/generate", key, asked);
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.body, HasSubstr("/init_image"));
}

TEST_F(ClientsTest, EachFamilyWordsItsErrorsInItsOwnWay) {
  const std::string reader = make_key("reader", {Scope::read});
  start();
  EXPECT_EQ(body_of(ask("GET", "/sdapi/v1/none", reader))["detail"], "Not Found");
  const RawResponse keyless = ask("POST", "/sdapi/v1/txt2img", "", kQuick);
  EXPECT_EQ(keyless.status, 401);
  EXPECT_TRUE(body_of(keyless)["detail"].is_string());
  const RawResponse denied = ask("POST", "/v1/images/generations", reader, {{"prompt", "a"}});
  EXPECT_EQ(denied.status, 403);
  EXPECT_EQ(body_of(denied)["error"]["type"], "invalid_request_error");
  EXPECT_EQ(body_of(ask("GET", "/v1/models", ""))["error"]["type"], "authentication_error");
}

TEST_F(ClientsTest, AJobThatFailsFailsTheStream) {
  start();
  const RawResponse response =
      ask("POST", "/v1/images/generations", "", {{"prompt", "fail"}, {"stream", true}, {"size", "256x256"}});
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.body, HasSubstr("event: error"));
  EXPECT_THAT(response.body, HasSubstr("the fake engine was asked to fail"));
}

}  // namespace
}  // namespace darkroom
