// The whole service over loopback, with a worker that makes its pictures out of nothing.
#include "service/service.h"

#include <filesystem>
#include <fstream>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_text.h"
#include "service/auth/key_file.h"
#include "tests/fakes/json_schema.h"
#include "tests/support/fast_directory.h"
#include "tests/support/raw_client.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr std::string_view kWait = "Prefer: wait=60\r\n";

// Three seconds, if it is let.
constexpr std::string_view kLong = R"({"prompt": "slow", "model_name": "m", "num_inference_steps": 150})";

class ServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("service");
    fs::remove_all(directory_);
    options_.worker = fs::path(DARKROOM_BINARY_DIR) / "bin" / "rogue-worker";
    options_.config.service.data = (directory_ / "data").string();
    options_.config.service.drain = 60;
    options_.config.outputs.directory = (directory_ / "outputs").string();
    options_.config.http.listen = "127.0.0.1:0";
    options_.config.http.log_level = "error";
    openapi_ = *parse_json(text_of(fs::path(DARKROOM_SOURCE_DIR) / "api" / "openapi.json"));
  }
  void TearDown() override {
    service_.reset();
    fs::remove_all(directory_);
  }

  void start() {
    Result<std::unique_ptr<Service>> service = Service::start(options_);
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
  }
  NewKey key(const KeyTerms& terms) const {
    Result<NewKey> made = KeyFile(options_.config.service.data).add(terms);
    EXPECT_TRUE(made) << made.error().message;
    return *made;
  }
  static std::string bearer(const NewKey& key) { return "Authorization: Bearer " + key.secret + "\r\n"; }
  static std::string text_of(const fs::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  RawResponse ask(std::string_view method, std::string_view target, std::string_view headers = "",
                  std::string_view body = "") const {
    return request(service_->port(), method, target, headers, body);
  }
  static std::string asking(const std::string& prompt, int pictures = 1) {
    return json{{"prompt", prompt},
                {"model_name", "m"},
                {"num_inference_steps", 3},
                {"batch", {{"size", pictures}}},
                {"seed", 7}}
        .dump();
  }
  // A job's JSON, held against openapi.json.
  json job_of(const RawResponse& response) const {
    const Result<json> job = parse_json(response.body);
    EXPECT_TRUE(job) << response.body;
    EXPECT_THAT(errors("Job", *job), IsEmpty()) << response.body;
    return *job;
  }
  std::vector<std::string> errors(const char* schema, const json& value) const {
    return schema_errors(openapi_["components"]["schemas"][schema], value, openapi_);
  }
  static std::string path_of(const json& job) { return "/v1/jobs/" + job.value("id", "?"); }

  fs::path directory_;
  ServiceOptions options_;
  json openapi_;
  std::unique_ptr<Service> service_;
};

// --- Jobs ---

TEST_F(ServiceTest, AJobIsTakenMadeAndFetched) {
  start();
  const RawResponse taken = ask("POST", "/v1/jobs", "", asking("a cat", 2));
  ASSERT_EQ(taken.status, 202) << taken.body;
  const json queued = job_of(taken);
  EXPECT_EQ(taken.header("Location"), queued["url"]);
  EXPECT_THAT(queued["url"].get<std::string>(), StartsWith("http://127.0.0.1/v1/jobs/"));
  const RawResponse waited = ask("GET", path_of(queued), kWait);
  EXPECT_EQ(waited.status, 200);
  const json job = job_of(waited);
  ASSERT_EQ(job["status"], "succeeded") << job.dump();
  ASSERT_EQ(job["images"].size(), 2U);
  const RawResponse picture = ask("GET", path_of(job) + "/images/1");
  EXPECT_EQ(picture.status, 200);
  EXPECT_EQ(picture.body.size(), job["images"][1]["bytes"].get<std::size_t>());
  EXPECT_EQ(picture.header("ETag"), '"' + job["images"][1]["sha256"].get<std::string>() + '"');
  EXPECT_EQ(ask("GET", path_of(job) + "/images/1", "If-None-Match: " + picture.header("ETag") + "\r\n").status, 304);
  EXPECT_EQ(ask("GET", path_of(job) + "/images/1", "Range: bytes=1-3\r\n").body, picture.body.substr(1, 3));
  EXPECT_EQ(ask("GET", path_of(job) + "/images/2").status, 404);
  EXPECT_EQ(ask("GET", path_of(job) + "/images/x").status, 404);
}

TEST_F(ServiceTest, AClientMayWaitForItsJobInOneRequest) {
  start();
  const RawResponse made = ask("POST", "/v1/jobs", kWait, asking("a cat"));
  EXPECT_EQ(made.status, 200);
  EXPECT_EQ(made.header("Preference-Applied"), "wait=60");
  EXPECT_EQ(job_of(made)["status"], "succeeded");
  const RawResponse slow = ask("POST", "/v1/jobs", "Prefer: respond-async, wait=1\r\n", kLong);
  EXPECT_EQ(slow.status, 202);
  EXPECT_EQ(ask("DELETE", path_of(job_of(slow))).status / 100, 2);
}

TEST_F(ServiceTest, EveryMistakeIsNamedWithItsPlace) {
  start();
  const RawResponse response =
      ask("POST", "/v1/jobs", "",
          R"({"prompt":"x","model_name":"m","num_inference_steps":0,"wdth":1,"webhook":{"uri":1}})");
  EXPECT_EQ(response.status, 400);
  const json problem = *parse_json(response.body);
  EXPECT_THAT(errors("Problem", problem), IsEmpty());
  std::vector<std::string> pointers;
  for (const json& error : problem["errors"]) pointers.push_back(error["pointer"]);
  EXPECT_THAT(pointers, testing::UnorderedElementsAre("/num_inference_steps", "/wdth", "/webhook/uri", "/webhook/url"));
  EXPECT_EQ(ask("POST", "/v1/jobs", "", "[]").status, 400);
  EXPECT_EQ(ask("POST", "/v1/jobs", "", "{").status, 400);
  EXPECT_EQ(ask("POST", "/v1/jobs").status, 400);
  EXPECT_THAT(ask("POST", "/v1/jobs", "", std::string(100'000, '[')).body, HasSubstr("nested deeper"));
}

TEST_F(ServiceTest, AnIdempotencyKeyMakesOneJob) {
  start();
  const std::string token = "Idempotency-Key: order-1\r\n";
  const json first = job_of(ask("POST", "/v1/jobs", token, asking("a cat")));
  const json second = job_of(ask("POST", "/v1/jobs", token, asking("a cat")));
  EXPECT_EQ(first["id"], second["id"]);
  EXPECT_EQ(ask("POST", "/v1/jobs", token, asking("a dog")).status, 409);
  EXPECT_EQ(ask("POST", "/v1/jobs", "Idempotency-Key: " + std::string(300, 'x') + "\r\n", asking("a")).status, 400);
}

TEST_F(ServiceTest, JobsAreListedPageByPage) {
  start();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ask("POST", "/v1/jobs", kWait, asking("a cat")).status, 200);
  std::vector<std::string> ids;
  std::string cursor;
  int pages = 0;
  do {
    const RawResponse response = ask("GET", "/v1/jobs?limit=2" + (cursor.empty() ? "" : "&cursor=" + cursor));
    const json page = *parse_json(response.body);
    EXPECT_THAT(errors("JobPage", page), IsEmpty());
    for (const json& job : page["jobs"]) ids.push_back(job["id"]);
    cursor = page.value("next", "");
    ++pages;
  } while (!cursor.empty());
  EXPECT_EQ(ids.size(), 5U);
  EXPECT_EQ(pages, 3);
  EXPECT_EQ((*parse_json(ask("GET", "/v1/jobs?status=failed").body))["jobs"].size(), 0U);
  for (const char* query : {"?limit=0", "?limit=201", "?status=x", "?cursor=x", "?size=3"}) {
    EXPECT_EQ(ask("GET", std::string("/v1/jobs") + query).status, 400) << query;
  }
}

TEST_F(ServiceTest, JobsAreCancelledAndRemoved) {
  start();
  const json running = job_of(ask("POST", "/v1/jobs", "", kLong));
  const json waiting = job_of(ask("POST", "/v1/jobs", "", asking("a cat")));
  EXPECT_EQ(job_of(ask("DELETE", path_of(waiting)))["status"], "cancelled");
  EXPECT_EQ(ask("DELETE", path_of(waiting) + "?remove=true").status, 204);
  EXPECT_EQ(ask("GET", path_of(waiting)).status, 404);
  EXPECT_EQ(ask("DELETE", path_of(running) + "?remove=true").status, 409);
  EXPECT_EQ(ask("DELETE", path_of(running) + "?remove=perhaps").status, 400);
  EXPECT_EQ(ask("DELETE", "/v1/jobs/nothing").status, 404);
}

TEST_F(ServiceTest, EventsTellOfAJobUntilItsEnd) {
  start();
  const json job = job_of(ask("POST", "/v1/jobs", "", asking("a cat")));
  const RawResponse all = ask("GET", path_of(job) + "/events");
  EXPECT_EQ(all.header("Content-Type"), "text/event-stream");
  EXPECT_THAT(all.body, HasSubstr("event: ended\ndata: {"));
  const std::size_t end = all.body.rfind("data: ");
  const Result<json> last = parse_json(all.body.substr(end + 6, all.body.find('\n', end) - end - 6));
  ASSERT_TRUE(last);
  EXPECT_EQ((*last)["status"], "succeeded");
  // Who comes back with the last event's id is told of the end again, or it would wait for ever.
  const std::size_t id = all.body.rfind("id: ");
  const std::string seen = all.body.substr(id + 4, all.body.find('\n', id) - id - 4);
  const RawResponse again = ask("GET", path_of(job) + "/events", "Last-Event-ID: " + seen + "\r\n");
  EXPECT_THAT(again.body, HasSubstr("event: ended"));
  EXPECT_EQ(ask("GET", "/v1/jobs/nothing/events").status, 404);
}

// --- Keys ---

TEST_F(ServiceTest, WithKeysEverybodySeesHisOwn) {
  const NewKey ann = key({.name = "ann"});
  const NewKey bob = key({.name = "bob"});
  const NewKey boss = key({.name = "boss", .scopes = {Scope::admin}});
  const NewKey guest = key({.name = "guest", .scopes = {Scope::read}});
  start();
  EXPECT_EQ(ask("POST", "/v1/jobs", "", asking("a cat")).status, 401);
  EXPECT_EQ(ask("GET", "/healthz").status, 200);
  const json job = job_of(ask("POST", "/v1/jobs", bearer(ann) + std::string(kWait), asking("a cat")));
  EXPECT_EQ(ask("GET", path_of(job), bearer(ann)).status, 200);
  EXPECT_EQ(ask("GET", path_of(job), bearer(bob)).status, 404);
  EXPECT_EQ(ask("GET", path_of(job) + "/images/0", bearer(bob)).status, 404);
  EXPECT_EQ(ask("GET", path_of(job) + "/events", bearer(bob)).status, 404);
  EXPECT_EQ(ask("DELETE", path_of(job) + "?remove=true", bearer(bob)).status, 404);
  EXPECT_EQ(ask("GET", path_of(job), bearer(boss)).status, 200);
  EXPECT_EQ((*parse_json(ask("GET", "/v1/jobs", bearer(bob)).body))["jobs"].size(), 0U);
  EXPECT_EQ((*parse_json(ask("GET", "/v1/jobs?key=" + ann.key.id, bearer(boss)).body))["jobs"].size(), 1U);
  EXPECT_EQ(ask("GET", "/v1/jobs?key=" + ann.key.id, bearer(bob)).status, 400);
  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(guest), asking("a cat")).status, 403);
  EXPECT_EQ(ask("GET", "/metrics", bearer(ann)).status, 403);
  EXPECT_EQ(ask("GET", "/metrics", bearer(boss)).status, 200);
  ASSERT_TRUE(KeyFile(options_.config.service.data).revoke("ann"));
  EXPECT_EQ(ask("GET", path_of(job), bearer(ann)).status, 401);
}

TEST_F(ServiceTest, FilesOfTheMachineAreItsOwners) {
  const NewKey ann = key({.name = "ann"});
  start();
  json body = *parse_json(asking("a cat"));
  body["init_image"] = "other/picture.png";
  const RawResponse response = ask("POST", "/v1/jobs", bearer(ann), body.dump());
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr("send the picture as a data: URI"));
}

TEST_F(ServiceTest, QuotasSayWhenToComeAgain) {
  const NewKey rare = key({.name = "rare", .limits = {.per_minute = 1}});
  const NewKey few = key({.name = "few", .limits = {.pictures_per_day = 3}});
  const NewKey one = key({.name = "one", .limits = {.concurrency = 1}});
  start();
  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(rare), asking("a cat")).status, 202);
  const RawResponse too_soon = ask("POST", "/v1/jobs", bearer(rare), asking("a cat"));
  EXPECT_EQ(too_soon.status, 429);
  EXPECT_GE(std::atoi(too_soon.header("Retry-After").c_str()), 1);
  EXPECT_EQ(ask("GET", "/v1/jobs", bearer(rare)).status, 200);  // looking is free

  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(few) + std::string(kWait), asking("a cat", 2)).status, 200);
  const RawResponse too_many = ask("POST", "/v1/jobs", bearer(few), asking("a cat", 2));
  EXPECT_EQ(too_many.status, 429);
  EXPECT_THAT(too_many.body, HasSubstr("asks for 2 pictures, 1 are left"));
  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(few) + "Idempotency-Key: a\r\n", asking("a cat", 1)).status, 202);
  // A repetition asks for nothing new.
  EXPECT_NE(ask("POST", "/v1/jobs", bearer(few) + "Idempotency-Key: a\r\n", asking("a cat", 1)).status, 429);

  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(one) + "Idempotency-Key: a\r\n", kLong).status, 202);
  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(one), asking("a cat")).status, 429);
  EXPECT_EQ(ask("POST", "/v1/jobs", bearer(one) + "Idempotency-Key: a\r\n", kLong).status, 202);
}

TEST_F(ServiceTest, BeyondThisMachineItWantsAKeyOrAWord) {
  options_.config.http.listen = "0.0.0.0:0";
  const auto refused = Service::start(options_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("darkroom keys add"));
  EXPECT_FALSE(fs::exists(options_.config.service.data));  // nothing was begun
  key({.name = "a"});
  EXPECT_TRUE(Service::start(options_));
  ASSERT_TRUE(KeyFile(options_.config.service.data).revoke("a"));
  EXPECT_FALSE(Service::start(options_));
  options_.config.http.insecure_no_auth = true;
  start();
  EXPECT_EQ(ask("GET", "/v1/jobs").status, 200);
}

TEST_F(ServiceTest, ListensOnlyAtAddresses) {
  for (const char* listen :
       {"", "x", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "example.org:80", ":80", "::1:80x"}) {
    options_.config.http.listen = listen;
    const auto refused = Service::start(options_);
    ASSERT_FALSE(refused) << listen;
    EXPECT_THAT(refused.error().message, HasSubstr("http.listen")) << listen;
  }
}

// --- About itself ---

TEST_F(ServiceTest, TellsOfItself) {
  start();
  EXPECT_EQ(ask("GET", "/").status, 200);
  EXPECT_EQ(ask("HEAD", "/").status, 200);
  EXPECT_EQ(*parse_json(ask("GET", "/openapi.json").body), openapi_);
  for (const char* page : {"/", "/docs", "/docs/docs.js", "/docs/docs.css"}) {
    const RawResponse response = ask("GET", page);
    EXPECT_EQ(response.status, 200) << page;
    EXPECT_THAT(response.header("Content-Security-Policy"), HasSubstr("default-src 'none'"));
    EXPECT_THAT(response.body, testing::Not(HasSubstr("//cdn"))) << page;
    EXPECT_THAT(response.body, testing::Not(HasSubstr("https://"))) << page;
  }
  EXPECT_EQ(ask("POST", "/v1/jobs", kWait, asking("a cat")).status, 200);
  EXPECT_EQ(*parse_json(ask("GET", "/readyz").body), json({{"status", "ready"}}));
  EXPECT_THAT(ask("GET", "/metrics").body, HasSubstr("darkroom_jobs_admitted_total 1\n"));
  // A request is counted, and its connection forgotten, once its answer is written: the client may be faster.
  const auto is_told = [&](std::string_view line) {
    return ask("GET", "/metrics").body.find(line) != std::string::npos;
  };
  while (!is_told("darkroom_http_requests_total{route=\"/v1/jobs\",status=\"200\"} 1\n")) std::this_thread::yield();
  while (!is_told("darkroom_http_connections 1\n")) std::this_thread::yield();
}

TEST_F(ServiceTest, EndsWithItsJobsDone) {
  start();
  const json job = job_of(ask("POST", "/v1/jobs", "", asking("a cat")));
  RawClient waiting(service_->port());
  waiting.send("GET " + path_of(job) + " HTTP/1.1\r\nHost: localhost\r\n" + std::string(kWait) + "\r\n");
  const RawResponse answer = waiting.read();
  service_->drain();
  EXPECT_EQ(job_of(answer)["status"], "succeeded");
  service_.reset();
  start();
  EXPECT_EQ(job_of(ask("GET", path_of(job)))["status"], "succeeded");
}

}  // namespace
}  // namespace darkroom
