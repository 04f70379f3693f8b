// What is about the service itself: its health, its figures, its description.
#include <nlohmann/json.hpp>

#include "service/routes/routes.h"

extern const char kOpenapiJson[];
extern const char kRequestSchemaJson[];
extern const char kIndexHtml[];
extern const char kDocsHtml[];
extern const char kDocsJs[];
extern const char kDocsCss[];

namespace darkroom {
namespace {

using http::Answer;

struct Page {
  const char* path;
  const char* content_type;
  const char* text;
};

// Pages load what lies beside them and nothing from elsewhere; the browser is told to see to it.
http::Response page_response(const Page& page) {
  http::Response response = http::text_response(200, page.content_type, page.text);
  response.headers.add("Content-Security-Policy",
                       "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
                       "form-action 'none'; frame-ancestors 'none'");
  response.headers.add("Cache-Control", "no-cache");
  return response;
}

Answer readiness(Jobs& jobs) {
  const Result<void> ready = jobs.ready();
  nlohmann::ordered_json body = {{"status", ready ? "ready" : "not ready"}};
  if (!ready) body["reason"] = ready.error().message;
  return http::text_response(ready ? 200 : 503, "application/json", body.dump());
}

}  // namespace

void add_meta_routes(http::Router& router, Jobs& jobs, const Metrics& metrics) {
  const auto add = [&](const char* path, Scope scope, http::Handler handler) {
    router.add({"GET", path, scope, http::Cost::free, std::move(handler)});
  };
  add("/healthz", Scope::none,
      [](const http::Request&) { return http::text_response(200, "application/json", R"({"status":"ok"})"); });
  add("/readyz", Scope::none, [&jobs](const http::Request&) { return readiness(jobs); });
  add("/metrics", Scope::admin, [&metrics](const http::Request&) {
    return http::text_response(200, "text/plain; version=0.0.4; charset=utf-8", metrics.text());
  });
  static constexpr Page kPages[] = {
      {"/", "text/html; charset=utf-8", kIndexHtml},
      {"/docs", "text/html; charset=utf-8", kDocsHtml},
      {"/docs/docs.js", "text/javascript; charset=utf-8", kDocsJs},
      {"/docs/docs.css", "text/css; charset=utf-8", kDocsCss},
      {"/openapi.json", "application/json", kOpenapiJson},
      {"/schemas/enhanced_request_schema.json", "application/schema+json", kRequestSchemaJson},
  };
  for (const Page& page : kPages) {
    add(page.path, Scope::none, [&page](const http::Request&) { return page_response(page); });
  }
}

}  // namespace darkroom
