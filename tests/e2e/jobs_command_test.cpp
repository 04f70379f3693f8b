// `darkroom jobs` against `darkroom serve`, both as a user starts them.
#include <csignal>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/e2e/program.h"
#include "tests/support/raw_client.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class JobsCommand : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / fmt::format("jobs_{}_{}", ::getpid(), test->name());
    fs::create_directories(root_ / "models/checkpoints/sdxl");
    std::ofstream(root_ / "models/checkpoints/sdxl/model_index.json")
        << R"({"_class_name": "StableDiffusionXLPipeline"})";
    ::unsetenv("DARKROOM_KEY");
  }
  void TearDown() override {
    if (service_) {
      service_->send_signal(SIGTERM);
      outcome(*service_);
    }
    fs::remove_all(root_);
  }

  static Outcome run(const std::vector<std::string>& arguments) {
    Subprocess process = start_darkroom(arguments);
    return outcome(process);
  }
  Outcome jobs(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "jobs");
    arguments.insert(arguments.end(), {"--url", url_});
    return run(arguments);
  }
  std::string add_key(const std::string& name, const std::string& scope) const {
    const Outcome made = run({"keys", "add", name, "--scope", scope, "--json", "--data", root_ / "data"});
    return json::parse(made.output)["key"];
  }
  // Until it says where it listens.
  void serve() {
    service_.emplace(start_darkroom({"serve", "--listen", "127.0.0.1:0", "--data", root_ / "data", "--models",
                                     root_ / "models", "--outputs", root_ / "outputs"}));
    url_ = url_of_service(*service_);
    ASSERT_FALSE(url_.empty());
  }
  // By the service's own API, as a job of the key's; its id.
  std::string submit(const std::string& prompt, const std::string& key = "") const {
    const std::string body = json{{"prompt", prompt}, {"model_name", "sdxl"}, {"num_inference_steps", 150}}.dump();
    const auto port = static_cast<std::uint16_t>(std::stoi(url_.substr(url_.rfind(':') + 1)));
    const std::string headers = key.empty() ? "" : "Authorization: Bearer " + key + "\r\n";
    const RawResponse taken = request(port, "POST", "/v1/jobs", headers, body);
    EXPECT_EQ(taken.status, 202) << taken.body;
    return json::parse(taken.body)["id"];
  }

  fs::path root_;
  std::string url_;
  std::optional<Subprocess> service_;
};

TEST_F(JobsCommand, JobsAreListedShownCancelledAndRemoved) {
  serve();
  const std::string running = submit("slow");
  const std::string waiting = submit("slow");
  const Outcome list = jobs({"list"});
  EXPECT_EQ(list.status.code, 0) << list.output;
  EXPECT_THAT(list.output, testing::ContainsRegex(waiting + "  queued .*sdxl"));
  EXPECT_THAT(list.output, HasSubstr(running));
  const Outcome limited = jobs({"list", "--limit", "1", "--json"});
  EXPECT_EQ(json::parse(limited.output)["jobs"].size(), 1U);
  EXPECT_THAT(jobs({"list", "--status", "failed"}).output, Not(HasSubstr(waiting)));
  EXPECT_THAT(jobs({"show", waiting}).output, HasSubstr("seed"));
  EXPECT_EQ(json::parse(jobs({"show", waiting, "--json"}).output)["id"], waiting);

  EXPECT_EQ(jobs({"cancel", waiting}).output, waiting + " is cancelled\n");
  EXPECT_EQ(jobs({"remove", running}).status.code, 1);  // it is not finished
  EXPECT_EQ(jobs({"cancel", running}).status.code, 0);
  EXPECT_EQ(jobs({"remove", waiting}).output, "removed " + waiting + "\n");
  const Outcome gone = jobs({"show", waiting});
  EXPECT_EQ(gone.status.code, 3);
  EXPECT_THAT(gone.output, HasSubstr("there is no job " + waiting));
}

TEST_F(JobsCommand, SpeaksWithTheRightsOfItsKey) {
  const std::string ann = add_key("ann", "generate");
  const std::string boss = add_key("boss", "admin");
  serve();
  const std::string hers = submit("slow", ann);
  const Outcome keyless = jobs({"list"});
  EXPECT_EQ(keyless.status.code, 2) << keyless.output;
  EXPECT_THAT(keyless.output, HasSubstr("key"));
  std::ofstream(root_ / "key") << boss << "\n";
  EXPECT_THAT(jobs({"list", "--key-file", root_ / "key"}).output, HasSubstr(hers));
  ::setenv("DARKROOM_KEY", add_key("bob", "generate").c_str(), 1);
  EXPECT_THAT(jobs({"list"}).output, Not(HasSubstr(hers)));
  EXPECT_EQ(jobs({"cancel", hers}).status.code, 3);  // as if it did not exist
  ::setenv("DARKROOM_KEY", ann.c_str(), 1);
  EXPECT_EQ(jobs({"cancel", hers}).status.code, 0);
  EXPECT_EQ(jobs({"list", "--key-file", root_ / "nothing"}).status.code, 2);
}

TEST_F(JobsCommand, AnIdLeadsNowhereElse) {
  serve();
  EXPECT_EQ(jobs({"show", "../../metrics"}).status.code, 2);  // refused as a path
  EXPECT_EQ(jobs({"cancel", "x?remove=true"}).status.code, 3);
}

TEST_F(JobsCommand, SaysWhereItLookedForTheService) {
  const Outcome nobody = run({"jobs", "list", "--url", "http://127.0.0.1:1/"});
  EXPECT_EQ(nobody.status.code, 3);
  EXPECT_THAT(nobody.output, HasSubstr("no service answers at http://127.0.0.1:1: "));
  // Where the settings say that it listens.
  EXPECT_THAT(run({"jobs", "list", "--listen", "0.0.0.0:1"}).output, HasSubstr("at http://127.0.0.1:1: "));
  EXPECT_EQ(run({"jobs", "list", "--limit", "0"}).status.code, 2);
  EXPECT_EQ(run({"jobs"}).status.code, 2);
}

}  // namespace
}  // namespace darkroom
