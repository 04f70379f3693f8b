#include "service/service.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include "service/auth/authenticator.h"
#include "service/auth/rate_limiter.h"
#include "service/clients/clients.h"
#include "service/http/server.h"
#include "service/jobs/jobs.h"
#include "service/routes/job_desk.h"
#include "service/routes/job_metrics.h"
#include "service/routes/routes.h"
#include "service/telemetry/json_log.h"
#include "service/telemetry/metrics.h"

namespace darkroom {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kLastWords(5);  // for answers on their way when the service ends

struct Endpoint {
  std::string address;
  std::uint16_t port = 0;
};

// "127.0.0.1:7860", "[::1]:7860", "localhost:7860"
Result<Endpoint> parse_endpoint(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  Endpoint endpoint;
  if (colon != std::string::npos) {
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, endpoint.port);
    endpoint.address = http::host_name(text);
    if (endpoint.address == "localhost") endpoint.address = "127.0.0.1";
    if (error == std::errc() && rest == end && http::is_address(endpoint.address)) return endpoint;
  }
  return fail(ErrorCode::invalid_argument, "http.listen: {} is no address and port like 127.0.0.1:7860", text);
}

// 1024 connections and the files that are read for them take more than the usual 1024.
void raise_file_limit(int connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  // A table of descriptors that grows while many threads use it makes all of them wait for the kernel: it grows now.
  const int high = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 2 * connections);
  if (high >= 0) ::close(high);
}

// Where the models' hashes lie, if nobody says.
ServiceOptions with_hashes(ServiceOptions options) {
  std::string& hashes = options.config.models.hashes;
  if (hashes.empty()) hashes = (std::filesystem::path(options.config.service.data) / "model-hashes.json").string();
  return options;
}

http::ServerOptions server_options(const HttpConfig& config, const Endpoint& endpoint) {
  http::ServerOptions options;
  options.address = endpoint.address;
  options.port = endpoint.port;
  options.tls = {config.tls_certificate, config.tls_key};
  options.path_prefix = config.path_prefix;
  options.public_url = config.public_url;
  options.guard = {config.hosts, config.cors_origins};
  options.trusted_proxies = config.trusted_proxies;
  options.header_bytes = config.header_bytes;
  options.body_bytes = config.body_bytes;
  options.buffered_bytes = config.buffered_bytes;
  options.connections = config.connections;
  options.connections_per_address = config.connections_per_address;
  options.header_time = seconds(config.header_time);
  options.body_time = seconds(config.body_time);
  options.write_time = seconds(config.write_time);
  options.idle_time = seconds(config.idle_time);
  options.io_threads = config.threads;
  options.handler_threads = config.handler_threads;
  return options;
}

Openness openness_of(const HttpConfig& config, const Endpoint& endpoint) {
  if (config.insecure_no_auth) return Openness::always;
  return http::is_loopback_address(endpoint.address) ? Openness::until_keys_exist : Openness::closed;
}

http::Problem unauthorized(const Error& error) {
  if (error.code == ErrorCode::internal) return http::problem_of(error);  // keys.json is damaged
  return {.status = 401,
          .code = ErrorCode::invalid_argument,
          .detail = error.message,
          .complaints = {},
          .headers = {{"WWW-Authenticate", "Bearer realm=\"darkroom\""}}};
}

}  // namespace

class Service::Parts {
 public:
  explicit Parts(ServiceOptions options, Endpoint endpoint)
      : options_(with_hashes(std::move(options))),
        endpoint_(std::move(endpoint)),
        log_(STDERR_FILENO, value_of<LogLevel>(options_.config.http.log_level).value_or(LogLevel::info)),
        authenticator_(options_.config.service.data, openness_of(options_.config.http, endpoint_)) {}

  Result<void> start() {
    if (Result<void> safe = check_safety(); !safe) return safe;
    raise_file_limit(options_.config.http.connections);
    Result<std::unique_ptr<Jobs>> jobs = Jobs::start(jobs_options());
    if (!jobs) return tl::unexpected(jobs.error());
    jobs_ = std::move(*jobs);
    gate_.emplace(*jobs_);
    desk_.emplace(options_.config, *jobs_, *gate_);
    metrics_.add_source([this] { return job_metrics(jobs_->stats()); });
    metrics_.add_source([this] { return server_metrics(); });

    http::Router router;
    add_meta_routes(router, *jobs_, metrics_);
    add_job_routes(router, *desk_);
    const ServiceConfig& service = options_.config.service;
    const ModelsConfig& models = options_.config.models;
    look_for_models_ = add_client_routes(router, *desk_,
                                         {.models = {.directories = models.directories,
                                                     .hashes = models.hashes,
                                                     .look_every = seconds(models.look_every)},
                                          .default_model = service.model,
                                          .strict_models = service.strict_models});
    for (const http::Route& route : router.routes()) routes_.emplace_back(route.method, route.pattern);
    Result<std::unique_ptr<http::Server>> server =
        http::Server::start(server_options(options_.config.http, endpoint_), std::move(router), hooks());
    if (!server) return tl::unexpected(server.error());
    server_ = std::move(*server);
    is_up_ = true;
    log_.write(LogLevel::info, "listening", {{"url", url()}, {"keys_required", !authenticator_.is_open()}});
    return {};
  }

  std::string url() const {
    const std::string& address = endpoint_.address;
    const bool is_six = address.find(':') != std::string::npos;
    return fmt::format("{}://{}:{}", options_.config.http.tls_certificate.empty() ? "http" : "https",
                       is_six ? '[' + address + ']' : address, port());
  }
  std::uint16_t port() const { return server_->port(); }
  const std::vector<std::pair<std::string, std::string>>& routes() const { return routes_; }

  void reload() {
    look_for_models_();
    Result<void> reloaded;
    if (!options_.config.http.tls_certificate.empty()) reloaded = server_->reload_tls();
    if (reloaded) {
      log_.write(LogLevel::info, "reloaded");
    } else {
      log_.write(LogLevel::error, "reload", {{"message", reloaded.error().message}});
    }
  }

  void drain() {
    log_.write(LogLevel::info, "draining");
    server_->drain();
    jobs_->drain(steady_clock::now() + seconds(options_.config.service.drain));
    server_->finish(kLastWords);
    log_.write(LogLevel::info, "ended");
  }

 private:
  Result<void> check_safety() {
    if (http::is_loopback_address(endpoint_.address) || options_.config.http.insecure_no_auth) return {};
    const auto keys = KeyFile(options_.config.service.data).load();
    if (!keys) return tl::unexpected(keys.error());
    if (*keys && !(*keys)->empty()) return {};
    return fail(ErrorCode::invalid_argument,
                "{} can be reached from other machines and there is no API key yet: make one with `darkroom keys add "
                "NAME --data {}`, or serve anybody with --insecure-no-auth",
                options_.config.http.listen, options_.config.service.data);
  }

  JobsOptions jobs_options() {
    JobsOptions options;
    options.service = options_.config.service;
    options.outputs = options_.config.outputs.directory;
    options.worker = options_.worker;
    options.worker_arguments = options_.worker_arguments;
    options.worker_arguments.insert(options.worker_arguments.end(), {"--model-hashes", options_.config.models.hashes});
    options.worker_line_bytes = options_.config.worker.line_bytes;
    options.batch = std::min(options_.config.worker.batch, options_.config.worker.queue);
    options.log = [this](LogLevel level, const std::string& message) {
      log_.write(level, "jobs", {{"message", message}});
    };
    options.webhook_secret = [this](const std::string& id) -> std::optional<std::string> {
      const std::optional<ApiKey> key = authenticator_.key(id);
      return key ? std::optional(key->webhook_secret) : std::nullopt;
    };
    return options;
  }

  http::ServerHooks hooks() {
    return {.admit = [this](const http::Request& request, const http::Route& route) { return admit(request, route); },
            .is_open = [this] { return authenticator_.is_open(); },
            .finished = [this](const http::Exchange& exchange) { note(exchange); }};
  }

  tl::expected<Principal, http::Problem> admit(const http::Request& request, const http::Route& route) {
    if (route.scope == Scope::none) return Principal{};
    const std::string_view api_key = request.headers.get("Api-Key");
    Result<Principal> who =
        authenticator_.identify({.authorization = request.headers.get("Authorization"),
                                 .api_key = api_key.empty() ? request.headers.get("X-Api-Key") : api_key});
    if (!who) return tl::unexpected(unauthorized(who.error()));
    if (!who->may(route.scope)) {
      return tl::unexpected(http::Problem{
          .status = 403,
          .code = ErrorCode::unsupported,
          .detail = fmt::format("this takes a key with the scope {}, {} has not", name_of(route.scope), who->name),
          .complaints = {},
          .headers = {}});
    }
    if (route.cost == http::Cost::counted && who->limits.per_minute > 0) {
      const auto wait = limiter_.take(who->key, who->limits.per_minute, steady_clock::now());
      if (wait.count() > 0) return tl::unexpected(too_many(*who, wait));
    }
    return std::move(*who);
  }

  static http::Problem too_many(const Principal& who, std::chrono::milliseconds wait) {
    http::Problem problem = http::problem_of(Error{
        ErrorCode::overloaded, fmt::format("the key {} may ask {} times a minute", who.name, who.limits.per_minute)});
    problem.headers.set("Retry-After", fmt::format("{}", std::chrono::ceil<seconds>(wait).count()));
    return problem;
  }

  void note(const http::Exchange& exchange) {
    const http::Request& request = exchange.request;
    const std::string route(exchange.route.empty() ? "none" : exchange.route);
    metrics_.count("darkroom_http_requests_total", "Requests.",
                   {{"route", route}, {"status", fmt::format("{}", exchange.status)}});
    metrics_.observe_seconds("darkroom_http_request_seconds", "Time from a request's first byte to its answer's last.",
                             {{"route", route}}, exchange.seconds);
    if (!request.principal.key.empty()) {
      metrics_.count("darkroom_key_requests_total", "Requests of an API key.", {{"key", request.principal.key}});
    }
    // Never the query, a header or a ticket: each may be a secret.
    nlohmann::ordered_json fields = {
        {"request_id", request.request_id},
        {"peer", request.peer},
        {"method", request.method.substr(0, 20)},
        {"path", request.parameters.contains("ticket") ? route : request.path.substr(0, 300)},
        {"status", exchange.status},
        {"bytes", exchange.bytes},
        {"seconds", exchange.seconds}};
    if (!request.principal.key.empty()) fields["key"] = request.principal.key;
    if (!exchange.complete) fields["complete"] = false;
    log_.write(LogLevel::info, "request", fields);
  }

  std::vector<MetricFamily> server_metrics() {
    if (!is_up_) return {};
    const auto refused = static_cast<double>(server_->refused_connections());
    return {
        {"darkroom_http_connections", "Connections.", MetricKind::gauge, {{{}, double(server_->connections())}}},
        {"darkroom_http_connections_refused_total", "Connections turned away.", MetricKind::counter, {{{}, refused}}}};
  }

  const ServiceOptions options_;
  const Endpoint endpoint_;
  const JsonLog log_;
  Metrics metrics_;
  Authenticator authenticator_;
  RateLimiter limiter_;
  std::unique_ptr<Jobs> jobs_;
  std::optional<QuotaGate> gate_;
  std::optional<JobDesk> desk_;
  std::vector<std::pair<std::string, std::string>> routes_;
  std::function<void()> look_for_models_;
  std::unique_ptr<http::Server> server_;  // last: it uses all of the above
  std::atomic<bool> is_up_ = false;
};

Service::Service(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Service::~Service() = default;

Result<std::unique_ptr<Service>> Service::start(ServiceOptions options) {
  Result<Endpoint> endpoint = parse_endpoint(options.config.http.listen);
  if (!endpoint) return tl::unexpected(endpoint.error());
  auto parts = std::make_unique<Parts>(std::move(options), std::move(*endpoint));
  if (const Result<void> started = parts->start(); !started) return tl::unexpected(started.error());
  return std::unique_ptr<Service>(new Service(std::move(parts)));
}

std::string Service::url() const { return parts_->url(); }
std::uint16_t Service::port() const { return parts_->port(); }
const std::vector<std::pair<std::string, std::string>>& Service::routes() const { return parts_->routes(); }
void Service::reload() { parts_->reload(); }
void Service::drain() { parts_->drain(); }

}  // namespace darkroom
