// darkroom jobs: what a running service has to do. Over HTTP, with the rights of a key (ADR 8).
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include <CLI/CLI.hpp>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/service_client.h"

namespace darkroom {
namespace {

using json = nlohmann::ordered_json;

constexpr int kPage = 200;  // the most that the service gives at once

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

// "12 of 25 steps", "2 pictures", "is no SDXL checkpoint"
std::string how_far(const json& job) {
  if (job.contains("error")) return text_of(job["error"], "message");
  if (job.contains("images")) {
    return fmt::format("{} {}", job["images"].size(), job["images"].size() == 1 ? "picture" : "pictures");
  }
  if (job.contains("progress") && text_of(job["progress"], "steps") != "0") {
    return fmt::format("{} of {} steps", text_of(job["progress"], "step"), text_of(job["progress"], "steps"));
  }
  if (job.contains("position")) return fmt::format("{} before it", text_of(job, "position"));
  return job.contains("progress") ? text_of(job["progress"], "stage") : "";
}

void print_table(const json& jobs) {
  constexpr const char* kRow = "{:<32}  {:<9}  {:<20}  {:<20}  {}\n";
  fmt::print(fmt::runtime(kRow), "ID", "STATUS", "CREATED", "MODEL", "");
  for (const json& job : jobs) {
    // To the second is enough for a table.
    const std::string created = text_of(job, "created_at").substr(0, 19) + "Z";
    fmt::print(fmt::runtime(kRow), text_of(job, "id"), text_of(job, "status"), created, text_of(job, "model"),
               how_far(job));
  }
}

void print_job(const json& job) {
  for (const char* key :
       {"id", "status", "model", "seed", "priority", "attempt", "created_at", "started_at", "finished_at"}) {
    if (const std::string value = text_of(job, key); !value.empty()) fmt::print("{:<12}{}\n", key, value);
  }
  if (const std::string far = how_far(job); !far.empty()) fmt::print("{:<12}{}\n", "", far);
  for (const json& warning : job.value("warnings", json::array())) {
    fmt::print("{:<12}{}\n", "warning", warning.get<std::string>());
  }
  for (const json& image : job.value("images", json::array()))
    fmt::print("{:<12}{}\n", "picture", text_of(image, "url"));
}

class JobsCommand final : public Command {
 public:
  JobsCommand() : Command("jobs") {}

  CLI::App* add(CLI::App& darkroom) override {
    CLI::App* app = add_subcommand(darkroom, "List, show, cancel and remove the jobs of a running service.");
    config_.add_service(*app);
    app->require_subcommand(1);
    app->fallthrough();
    app->add_option("--url", url_, "where the service is [where these settings say that it listens]");
    app->add_option("--key-file", key_file_, "file with an API key; also DARKROOM_KEY=KEY")->type_name("FILE");
    app->add_option("--ca-file", ca_file_, "PEM of who signed the service's certificate [the system's]")
        ->type_name("FILE");
    list_ = app->add_subcommand("list", "List jobs, the newest first: one's own, or with the admin scope everybody's.");
    list_->add_option("--status", status_, "only those: queued, running, succeeded, failed or cancelled");
    list_->add_option("--limit", limit_, "at most so many [50]")->check(CLI::Range(1, 1'000'000));
    show_ = app->add_subcommand("show", "Show a job.");
    cancel_ = app->add_subcommand("cancel", "Cancel a job that waits or runs.");
    remove_ = app->add_subcommand("remove", "Remove a finished job and its pictures.");
    for (CLI::App* command : {show_, cancel_, remove_}) {
      command->add_option("id", id_, "its id, as list and POST /v1/jobs say it")->required();
    }
    return app;
  }

  int run() override {
    const Result<Config> config = config_.load();
    if (!config) return report(config.error());
    Result<ServiceAddress> address = address_of(*config);
    if (!address) return report(address.error());
    const ServiceClient service(std::move(*address));
    if (list_->parsed()) return list(service);
    return one(service);
  }

 private:
  Result<ServiceAddress> address_of(const Config& config) const {
    ServiceAddress address{.url = url_.empty() ? url_of(config.http) : url_, .key = {}, .ca_file = ca_file_};
    while (address.url.ends_with('/')) address.url.pop_back();
    // Not on the command line, where everybody on the machine could read it.
    if (const char* key = std::getenv("DARKROOM_KEY")) address.key = key;
    if (key_file_.empty()) return address;
    std::ifstream file(key_file_);
    std::getline(file, address.key);
    if (!file) return fail(ErrorCode::invalid_argument, "--key-file: {} cannot be read", key_file_);
    address.key = std::string(trimmed(address.key));
    return address;
  }

  int list(const ServiceClient& service) const {
    json all = json::array();
    std::string cursor;
    do {
      const int left = limit_ - static_cast<int>(all.size());
      std::string target = fmt::format("/v1/jobs?limit={}", std::min(left, kPage));
      if (!status_.empty()) target += "&status=" + as_path_part(status_);
      if (!cursor.empty()) target += "&cursor=" + as_path_part(cursor);
      const auto page = service.ask("GET", target);
      if (!page) return report(page.error());
      for (const json& job : page->value("jobs", json::array())) all.push_back(job);
      cursor = text_of(*page, "next");
    } while (!cursor.empty() && static_cast<int>(all.size()) < limit_);
    if (json_) {
      fmt::print("{}\n", json{{"jobs", all}}.dump());
    } else {
      print_table(all);
    }
    return 0;
  }

  int one(const ServiceClient& service) const {
    const std::string path = "/v1/jobs/" + as_path_part(id_);
    const auto job = service.ask(show_->parsed() ? "GET" : "DELETE", remove_->parsed() ? path + "?remove=true" : path);
    if (!job) return report(job.error());
    if (json_) {
      fmt::print("{}\n", job->dump());
    } else if (remove_->parsed()) {
      fmt::print("removed {}\n", id_);
    } else if (cancel_->parsed() && job->contains("cancelling")) {
      fmt::print("{} ends within a step\n", id_);
    } else if (cancel_->parsed()) {
      fmt::print("{} is {}\n", id_, text_of(*job, "status"));
    } else {
      print_job(*job);
    }
    return 0;
  }

  CLI::App* list_ = nullptr;
  CLI::App* show_ = nullptr;
  CLI::App* cancel_ = nullptr;
  CLI::App* remove_ = nullptr;
  std::string url_;
  std::string key_file_;
  std::string ca_file_;
  std::string status_;
  int limit_ = 50;
  std::string id_;
};

}  // namespace

std::unique_ptr<Command> make_jobs() { return std::make_unique<JobsCommand>(); }

}  // namespace darkroom
