#include "tests/unit/http/live_server.h"

#include <fstream>

#include "base/random.h"
#include "service/http/event_stream.h"
#include "service/http/file_response.h"
#include "service/http/later.h"

namespace darkroom::http {
namespace {

Response told(std::string text) { return text_response(200, "text/plain", std::move(text)); }

}  // namespace

LiveServer::LiveServer()
    : directory_(std::filesystem::path(testing::TempDir()) / fmt::format("http_test_{:016x}", random_u64())) {
  std::filesystem::create_directories(directory_);
  std::ofstream(directory_ / "picture.png") << "0123456789";
}

LiveServer::~LiveServer() {
  server_.reset();
  std::filesystem::remove_all(directory_);
}

void LiveServer::start() {
  ServerHooks hooks;
  hooks.is_open = [this] { return open_.load(); };
  hooks.admit = [](const Request& request, const Route& route) -> tl::expected<Principal, Problem> {
    if (route.scope == Scope::none || request.headers.get("Authorization") == "Bearer good") {
      return Principal{"k1", "key", {Scope::generate}, {}};
    }
    return tl::unexpected(Problem{.status = 401,
                                  .code = ErrorCode::invalid_argument,
                                  .detail = "no",
                                  .complaints = {},
                                  .headers = {{"WWW-Authenticate", "Bearer"}}});
  };
  hooks.finished = [this](const Exchange& exchange) {
    const std::lock_guard lock(mutex_);
    seen_.push_back({std::string(exchange.route), exchange.status, exchange.complete});
  };
  Result<std::unique_ptr<Server>> server = Server::start(options_, routes(), std::move(hooks));
  ASSERT_TRUE(server) << server.error().message;
  server_ = std::move(*server);
}

std::vector<Seen> LiveServer::seen() {
  const std::lock_guard lock(mutex_);
  return seen_;
}

Answer LiveServer::wait(const Request& request) {
  const auto seconds = std::chrono::seconds(std::atoi(std::string(request.query_value("s").value_or("60")).c_str()));
  auto later = std::make_shared<Later>(std::chrono::steady_clock::now() + seconds, [] { return told("waited"); });
  later->on_gone([this] { ++gone_; });
  const std::lock_guard lock(mutex_);
  waiting_.push_back(later);
  return later;
}

Answer LiveServer::events(const Request& request) {
  auto stream = std::make_shared<EventStream>();
  ++subscribed_;
  stream->keep(std::shared_ptr<void>(nullptr, [this](void*) { --subscribed_; }));
  const int seen = std::atoi(std::string(request.headers.get("Last-Event-ID")).c_str());
  for (int i = seen + 1; i <= 3; ++i) stream->send({.id = fmt::format("{}", i), .name = "step", .data = "{}"});
  if (request.query_value("end")) stream->finish();
  {
    const std::lock_guard lock(mutex_);
    streams_.push_back(stream);
  }
  return Response{.status = 200, .headers = {{"Content-Type", "text/event-stream"}}, .body = stream};
}

Router LiveServer::routes() {
  Router router;
  const auto add = [&](std::string method, std::string pattern, Handler handler, Scope scope = Scope::none) {
    router.add(
        {.method = std::move(method), .pattern = std::move(pattern), .scope = scope, .handler = std::move(handler)});
  };
  add("GET", "/hello", [](const Request&) { return told("hello"); });
  add("POST", "/echo", [](const Request& request) { return told(request.body); });
  add("GET", "/large", [](const Request&) { return told(std::string(3'000'000, 'x')); });
  add("GET", "/file", [this](const Request& request) -> Answer {
    return *file_response(
        request,
        {.path = directory_ / "picture.png", .content_type = "image/png", .etag = "tag", .cache_control = "private"});
  });
  add("GET", "/who", [](const Request& request) { return told(request.peer + " " + request.base_url); });
  add("GET", "/break", [](const Request&) -> Answer { throw std::runtime_error("broken"); });
  add("GET", "/header", [](const Request& request) {
    Response response = told("");
    response.headers.add("X-Word", std::string(*request.query_value("word")));
    return response;
  });
  add(
      "POST", "/secret", [](const Request& request) { return told(request.principal.key); }, Scope::generate);
  add("GET", "/wait", [this](const Request& request) { return wait(request); });
  add("GET", "/events", [this](const Request& request) { return events(request); });
  router.format_problems("/own", [](const Problem& problem, const Request&) {
    return text_response(problem.status, "text/plain", "own words");
  });
  return router;
}

}  // namespace darkroom::http
