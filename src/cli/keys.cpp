// darkroom keys: who may use the service. A running one sees a change with its next request.
#include <chrono>
#include <ctime>

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "service/auth/key_file.h"

namespace darkroom {
namespace {

std::vector<std::string_view> names_of(const std::vector<Scope>& scopes) {
  std::vector<std::string_view> names;
  for (const Scope scope : scopes) names.push_back(name_of(scope));
  return names;
}

std::string limit(double value) { return value == 0.0 ? "-" : fmt::format("{:g}", value); }

std::string date(std::int64_t seconds) {
  return seconds == 0 ? "never" : fmt::format("{:%Y-%m-%d}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

nlohmann::ordered_json to_json(const ApiKey& key) {
  return {{"id", key.id},
          {"name", key.name},
          {"scopes", names_of(key.scopes)},
          {"weight", key.limits.weight},
          {"per_minute", key.limits.per_minute},
          {"concurrency", key.limits.concurrency},
          {"pictures_per_day", key.limits.pictures_per_day},
          {"created", key.created},
          {"expires", key.expires}};
}

class Keys final : public Command {
 public:
  Keys() : Command("keys") {}

  CLI::App* add(CLI::App& darkroom) override {
    CLI::App* app = add_subcommand(darkroom, "Make, list and revoke the API keys of the service.");
    config_.add_service(*app);
    app->require_subcommand(1);
    app->fallthrough();
    add_ = app->add_subcommand("add", "Make a key. It is shown once.");
    add_->add_option("name", terms_.name, "whose it is")->required();
    add_->add_option("--scope", scopes_, "read, generate or admin; repeatable [generate]")->allow_extra_args(false);
    add_->add_option("--weight", terms_.limits.weight, "share of the workers beside others [1]");
    add_->add_option("--per-minute", terms_.limits.per_minute, "requests that make something; 0: any [0]");
    add_->add_option("--concurrency", terms_.limits.concurrency, "unfinished jobs; 0: any [0]");
    add_->add_option("--pictures-per-day", terms_.limits.pictures_per_day, "0: any [0]");
    add_->add_option("--days", days_, "until it expires; 0: never [0]")->check(CLI::Range(0, 36'500));
    list_ = app->add_subcommand("list", "List the keys.");
    revoke_ = app->add_subcommand("revoke", "Revoke a key.");
    revoke_->add_option("key", revoked_, "its id or name")->required();
    return app;
  }

  int run() override {
    const Result<Config> config = config_.load();
    if (!config) return report(config.error());
    KeyFile file(config->service.data);
    if (add_->parsed()) return make(file);
    if (revoke_->parsed()) return revoke(file);
    return list(file);
  }

 private:
  int make(KeyFile& file) {
    if (!scopes_.empty()) terms_.scopes.clear();
    for (const std::string& name : scopes_) {
      const std::optional<Scope> scope = value_of<Scope>(name);
      if (!scope || *scope == Scope::none) {
        return report(Error{ErrorCode::invalid_argument, "--scope: is " + name + ", must be read, generate or admin"});
      }
      terms_.scopes.push_back(*scope);
    }
    if (days_ > 0) {
      const auto now = std::chrono::system_clock::now().time_since_epoch() + std::chrono::days(days_);
      terms_.expires = std::chrono::duration_cast<std::chrono::seconds>(now).count();
    }
    const Result<NewKey> made = file.add(terms_);
    if (!made) return report(made.error());
    if (json_) {
      nlohmann::ordered_json out = to_json(made->key);
      out["key"] = made->secret;
      out["webhook_secret"] = made->key.webhook_secret;
      fmt::print("{}\n", out.dump());
    } else {
      fmt::print("{}\n", made->secret);
      fmt::print(stderr, "This is the key of {}, id {}; it is not kept and cannot be shown again.\n", made->key.name,
                 made->key.id);
      fmt::print(stderr, "Webhooks of its jobs are signed with {}.\n", made->key.webhook_secret);
    }
    return 0;
  }

  int list(const KeyFile& file) const {
    const auto keys = file.load();
    if (!keys) return report(keys.error());
    const std::vector<ApiKey> all = keys->value_or(std::vector<ApiKey>{});
    if (json_) {
      nlohmann::ordered_json out = nlohmann::ordered_json::array();
      for (const ApiKey& key : all) out.push_back(to_json(key));
      fmt::print("{}\n", out.dump());
      return 0;
    }
    constexpr const char* kRow = "{:<16}  {:<20}  {:<14}  {:>6}  {:>10}  {:>11}  {:>12}  {}\n";
    fmt::print(fmt::runtime(kRow), "ID", "NAME", "SCOPES", "WEIGHT", "PER MINUTE", "CONCURRENCY", "PICTURES/DAY",
               "EXPIRES");
    for (const ApiKey& key : all) {
      fmt::print(fmt::runtime(kRow), key.id, key.name, fmt::format("{}", fmt::join(names_of(key.scopes), ",")),
                 limit(key.limits.weight), limit(key.limits.per_minute), limit(key.limits.concurrency),
                 limit(key.limits.pictures_per_day), date(key.expires));
    }
    return 0;
  }

  int revoke(KeyFile& file) const {
    const Result<ApiKey> revoked = file.revoke(revoked_);
    if (!revoked) return report(revoked.error());
    if (json_) {
      fmt::print("{}\n", to_json(*revoked).dump());
    } else {
      fmt::print("revoked {} ({})\n", revoked->name, revoked->id);
    }
    return 0;
  }

  CLI::App* add_ = nullptr;
  CLI::App* list_ = nullptr;
  CLI::App* revoke_ = nullptr;
  KeyTerms terms_;
  std::vector<std::string> scopes_;
  int days_ = 0;
  std::string revoked_;
};

}  // namespace

std::unique_ptr<Command> make_keys() { return std::make_unique<Keys>(); }

}  // namespace darkroom
