// Targets, routes, forms, ranges, guards, events: what the server is put together from.
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/http/event_stream.h"
#include "service/http/file_response.h"
#include "service/http/guard.h"
#include "service/http/multipart.h"
#include "service/http/router.h"
#include "service/http/target.h"

namespace darkroom::http {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

// --- Targets ---

TEST(Target, IsDecodedAndForgivesALastSlashAndABareQuestionMark) {
  const auto target = parse_target("/a%20b/%C3%A4/?x=1+2&y&z=%26&=v");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->path, "/a b/ä");
  EXPECT_THAT(target->query, ElementsAre(Pair("x", "1 2"), Pair("y", ""), Pair("z", "&"), Pair("", "v")));
  EXPECT_EQ(parse_target("/sdapi/v1/options?")->path, "/sdapi/v1/options");
  EXPECT_EQ(parse_target("/")->path, "/");
  EXPECT_EQ(parse_target("http://host:1/a?b=c")->path, "/a");
  EXPECT_EQ(parse_target("http://host")->path, "/");
  EXPECT_EQ(parse_target("*")->path, "*");
}

TEST(Target, ThatCouldLeadElsewhereIsRefused) {
  for (const char* target :
       {"", "a", "/..", "/a/../b", "/a/%2e%2E/b", "/a/.", "/a%2Fb", "/a%5Cb", "/a\\b", "/a%00", "/a%0Ab", "/a%", "/a%4",
        "/a%zz", "/a%FF", "/a?x=%", "/a?x=%FF", "//..", "/%C0%AE%C0%AE/"}) {
    EXPECT_FALSE(parse_target(target)) << target;
  }
}

// --- Routes ---

Route route(std::string method, std::string pattern) {
  return {.method = std::move(method), .pattern = std::move(pattern), .handler = [](const Request&) {
            return text_response(200, "text/plain", "");
          }};
}

TEST(Router, FindsByMethodAndPatternAndPrefersLiteralParts) {
  Router router;
  router.add(route("GET", "/v1/jobs"));
  router.add(route("POST", "/v1/jobs"));
  router.add(route("GET", "/v1/jobs/{id}"));
  router.add(route("GET", "/v1/jobs/all"));
  router.add(route("GET", "/v1/jobs/{id}/images/{index}"));
  router.add(route("GET", "/"));
  EXPECT_EQ(router.find("GET", "/").route->pattern, "/");
  EXPECT_EQ(router.find("HEAD", "/v1/jobs").route->pattern, "/v1/jobs");
  EXPECT_EQ(router.find("GET", "/v1/jobs/all").route->pattern, "/v1/jobs/all");
  const Router::Match match = router.find("GET", "/v1/jobs/x y/images/3");
  ASSERT_NE(match.route, nullptr);
  EXPECT_THAT(match.parameters, ElementsAre(Pair("id", "x y"), Pair("index", "3")));
  EXPECT_EQ(router.find("GET", "/v1/jobs//images/3").route, nullptr);
  EXPECT_EQ(router.find("GET", "/v1").route, nullptr);
  const Router::Match wrong = router.find("PUT", "/v1/jobs");
  EXPECT_EQ(wrong.route, nullptr);
  EXPECT_THAT(wrong.methods, ElementsAre("GET", "POST"));
  EXPECT_THAT(router.find("GET", "/nothing").methods, IsEmpty());
}

TEST(Router, PathsHaveTheirOwnWordsForProblems) {
  Router router;
  router.format_problems("/sdapi", [](const Problem& problem, const Request&) {
    return text_response(problem.status, "text/plain", "sdapi");
  });
  const Problem problem{.status = 404, .code = ErrorCode::not_found, .detail = "gone", .complaints = {}, .headers = {}};
  const auto words = [&](const char* path) {
    return std::get<std::string>(router.problem_format(path)(problem, Request{}).body);
  };
  EXPECT_EQ(words("/sdapi/v1/x"), "sdapi");
  EXPECT_EQ(words("/sdapi"), "sdapi");
  EXPECT_THAT(words("/sdapix"), HasSubstr("\"detail\":\"gone\""));
}

TEST(Problem, HasEveryComplaintWithItsPointer) {
  Request request;
  request.request_id = "r1";
  const Response response =
      problem_json(problem_of({{"/steps", "is 0, must be between 1 and 150"}, {"/width", "is 7"}}), request);
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(response.headers.get("content-type"), "application/problem+json");
  EXPECT_EQ(std::get<std::string>(response.body),
            R"({"type":"about:blank","title":"Bad Request","status":400,)"
            R"("detail":"/steps: is 0, must be between 1 and 150; /width: is 7","code":"invalid_argument",)"
            R"("request_id":"r1","errors":[{"pointer":"/steps","detail":"is 0, must be between 1 and 150"},)"
            R"({"pointer":"/width","detail":"is 7"}]})");
}

// --- Forms ---

constexpr const char* kForm = "multipart/form-data; boundary=b";

TEST(Multipart, PartsAreFoundWithTheirNamesAndBytes) {
  const std::string body =
      "preamble\r\n--b\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"a \\\"b\\\".png\"\r\n"
      "Content-Type: image/png\r\n\r\n\x89PNG\r\n--x\r\n\r\n--b \r\ncontent-disposition: Form-Data; name=n\r\n\r\n2"
      "\r\n--b\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--b--\r\nepilogue";
  const auto parts = parse_multipart(kForm, body);
  ASSERT_TRUE(parts) << parts.error().message;
  ASSERT_EQ(parts->size(), 3U);
  EXPECT_EQ((*parts)[0].name, "image[]");
  EXPECT_EQ((*parts)[0].filename, "a \"b\".png");
  EXPECT_EQ((*parts)[0].content_type, "image/png");
  EXPECT_EQ((*parts)[0].data, "\x89PNG\r\n--x\r\n");
  EXPECT_EQ((*parts)[1].name, "n");
  EXPECT_EQ((*parts)[1].data, "2");
  EXPECT_EQ((*parts)[2].data, "");
}

TEST(Multipart, BoundariesMayBeQuotedAndTheFormEmpty) {
  EXPECT_TRUE(parse_multipart("Multipart/Form-Data; charset=utf-8; boundary=\"a b;c\"", "--a b;c--")->empty());
}

TEST(Multipart, WhatIsNoFormIsNamed) {
  const auto trouble = [](const char* type, const std::string& body) {
    const auto parts = parse_multipart(type, body, {.parts = 2, .header_bytes = 100});
    return parts ? "none" : parts.error().message;
  };
  const std::string part = "--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n";
  EXPECT_EQ(trouble(kForm, part + "--b--"), "none");
  EXPECT_THAT(trouble("application/json", ""), HasSubstr("not multipart/form-data"));
  EXPECT_THAT(trouble("multipart/form-data", ""), HasSubstr("boundary"));
  EXPECT_THAT(trouble("multipart/form-data; boundary=\"x", ""), HasSubstr("boundary"));
  EXPECT_THAT(trouble(kForm, ""), HasSubstr("no boundary"));
  EXPECT_THAT(trouble(kForm, part), HasSubstr("does not end"));
  EXPECT_THAT(trouble(kForm, "--bx\r\n"), HasSubstr("not followed by a line break"));
  EXPECT_THAT(trouble(kForm, "--b\r\nA: b"), HasSubstr("headers do not end"));
  EXPECT_THAT(trouble(kForm, "--b\r\nnothing\r\n\r\n\r\n--b--"), HasSubstr("without a colon"));
  EXPECT_THAT(trouble(kForm, "--b\r\n\r\n\r\n--b--"), HasSubstr("no Content-Disposition"));
  EXPECT_THAT(trouble(kForm, "--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--"), HasSubstr("with a name"));
  EXPECT_THAT(trouble(kForm, "--b\r\nA: " + std::string(200, 'x') + "\r\n\r\n\r\n--b--"), HasSubstr("too long"));
  EXPECT_THAT(trouble(kForm, part + part + part + "--b--"), HasSubstr("more than 2 parts"));
  EXPECT_THAT(trouble(kForm, "--b\r\nContent-Transfer-Encoding: base64\r\n\r\n\r\n--b--"), HasSubstr("encoding"));
}

// --- Ranges and tags ---

TEST(Range, OfBytesIsCutToTheFile) {
  const auto range = [](const char* header) {
    const auto found = parse_range(header, 100);
    return found ? fmt::format("{}+{}", found->offset, found->size) : "whole";
  };
  EXPECT_EQ(range("bytes=0-9"), "0+10");
  EXPECT_EQ(range("bytes=90-"), "90+10");
  EXPECT_EQ(range("bytes=90-900"), "90+10");
  EXPECT_EQ(range("bytes=-5"), "95+5");
  EXPECT_EQ(range("bytes=-500"), "0+100");
  EXPECT_EQ(range("bytes=99-99"), "99+1");
  EXPECT_EQ(range("bytes=100-"), "0+0");
  EXPECT_EQ(range("bytes=-0"), "100+0");
  for (const char* other : {"", "bytes=5-4", "bytes=a-b", "bytes=1-2,4-5", "items=1-2", "bytes=", "bytes=-",
                            "bytes=+1-2", "bytes=99999999999999999999-"}) {
    EXPECT_EQ(range(other), "whole") << other;
  }
}

TEST(Etag, IsFoundInAList) {
  EXPECT_TRUE(names_etag("\"a\"", "a"));
  EXPECT_TRUE(names_etag("\"b\", W/\"a\"", "a"));
  EXPECT_TRUE(names_etag("*", "a"));
  EXPECT_FALSE(names_etag("", "a"));
  EXPECT_FALSE(names_etag("a", "a"));
  EXPECT_FALSE(names_etag("\"ab\"", "a"));
}

// --- Guards ---

TEST(Guard, AServiceIsAskedUnderNamesThatNobodyCanRebind) {
  const Guard guard({.hosts = {"My-Box.lan"}, .origins = {}});
  for (const char* host : {"localhost", "localhost:7860", "LOCALHOST", "127.0.0.1:7860", "[::1]:7860", "192.168.1.5",
                           "my-box.lan:7860", "app.localhost"}) {
    EXPECT_TRUE(guard.check_host(host)) << host;
  }
  for (const char* host : {"evil.example", "127.0.0.1.evil.example:7860", "localhost.evil.example", "", "[::1", "x"}) {
    EXPECT_FALSE(guard.check_host(host)) << host;
  }
}

Request from_page(std::string method, std::string origin) {
  Request request;
  request.method = std::move(method);
  request.headers = {{"Host", "127.0.0.1:7860"}, {"Origin", std::move(origin)}};
  return request;
}

TEST(Guard, ForeignPagesChangeNothingAndReadNothing) {
  const Guard guard({.hosts = {}, .origins = {"https://lite.koboldai.net"}});
  EXPECT_TRUE(guard.check_origin(from_page("POST", "https://lite.koboldai.net")));
  EXPECT_TRUE(guard.check_origin(from_page("POST", "http://127.0.0.1:7860")));
  EXPECT_TRUE(guard.check_origin(from_page("GET", "https://evil.example")));
  for (const char* origin : {"https://evil.example", "null", "https://lite.koboldai.net.evil.example",
                             "http://lite.koboldai.net", "http://127.0.0.1:8080"}) {
    EXPECT_FALSE(guard.check_origin(from_page("POST", origin))) << origin;
    EXPECT_FALSE(guard.check_origin(from_page("DELETE", origin))) << origin;
    EXPECT_FALSE(guard.cors_headers(from_page("GET", origin)).has("Access-Control-Allow-Origin")) << origin;
  }
  EXPECT_EQ(guard.cors_headers(from_page("GET", "https://lite.koboldai.net")).get("Access-Control-Allow-Origin"),
            "https://lite.koboldai.net");
  EXPECT_EQ(guard.cors_headers(from_page("GET", "https://lite.koboldai.net")).get("Vary"), "Origin");
}

TEST(Guard, PreflightNamesMethodsAndTheHeadersOfClients) {
  const Guard guard({.hosts = {}, .origins = {"https://page.example"}});
  Request request = from_page("OPTIONS", "https://page.example");
  request.headers.add("Access-Control-Request-Method", "POST");
  const Response response = guard.preflight(request, {"GET", "POST"});
  EXPECT_EQ(response.status, 204);
  EXPECT_EQ(response.headers.get("Access-Control-Allow-Methods"), "GET, POST, HEAD, OPTIONS");
  EXPECT_THAT(std::string(response.headers.get("Access-Control-Allow-Headers")), HasSubstr("X-Stainless-Retry-Count"));
  request.headers.set("Origin", "https://other.example");
  EXPECT_FALSE(guard.preflight(request, {"GET"}).headers.has("Access-Control-Allow-Methods"));
}

TEST(Guard, LoopbackIsKnownInBothFamilies) {
  EXPECT_TRUE(is_loopback_address("127.0.0.1"));
  EXPECT_TRUE(is_loopback_address("127.9.9.9"));
  EXPECT_TRUE(is_loopback_address("::1"));
  EXPECT_FALSE(is_loopback_address("0.0.0.0"));
  EXPECT_FALSE(is_loopback_address("::"));
  EXPECT_FALSE(is_loopback_address("localhost"));
}

// --- Events ---

TEST(Event, IsWrittenAsTheFormatAsks) {
  EXPECT_EQ(to_text({.id = "7", .name = "progress", .data = "{\"a\":\n1}"}),
            "id: 7\nevent: progress\ndata: {\"a\":\ndata: 1}\n\n");
  EXPECT_EQ(to_text({.id = "", .name = "", .data = ""}), "data:\n\n");
  EXPECT_EQ(to_text({.id = "1\nevent: x", .name = "a\rb", .data = "x\r\ry"}),
            "id: 1\nevent: a\ndata: x\ndata: \ndata: y\n\n");
}

TEST(EventStream, ASlowClientLosesWhatMayBeLostAndIsCutBeyondThat) {
  EventStream stream(/*most_waiting=*/100);
  const std::string half(40, 'x');
  stream.send({.id = "1", .name = "", .data = half});
  stream.send({.id = "2", .name = "", .data = half, .delivery = Delivery::best_effort});
  EventStream::Waiting waiting = stream.take();
  EXPECT_THAT(waiting.text, HasSubstr("id: 1"));
  EXPECT_THAT(waiting.text, testing::Not(HasSubstr("id: 2")));
  EXPECT_FALSE(waiting.ended);
  stream.send({.id = "3", .name = "", .data = std::string(500, 'x')});  // alone: it must go somehow
  stream.send({.id = "4", .name = "", .data = half});
  waiting = stream.take();
  EXPECT_THAT(waiting.text, HasSubstr("id: 3"));
  EXPECT_TRUE(waiting.ended);
}

TEST(EventStream, LetsGoOfWhatItKeeps) {
  auto kept = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = kept;
  EventStream stream;
  stream.keep(std::move(kept));
  EXPECT_FALSE(watch.expired());
  stream.let_go();
  EXPECT_TRUE(watch.expired());
}

TEST(Bell, RungBeforeSomebodyListensIsHeardAtOnce) {
  Bell bell;
  int heard = 0;
  bell.ring();
  bell.listen([&] { ++heard; });
  EXPECT_EQ(heard, 1);
  bell.ring();
  EXPECT_EQ(heard, 2);
}

TEST(Bell, NobodyHearsItWhoNoLongerListens) {
  Bell bell;
  std::atomic<bool> ends = false;
  std::atomic<bool> listens = false;
  std::atomic<int> heard_there = 0, heard_too_late = 0;
  const auto here = std::this_thread::get_id();
  std::thread ringing([&] {
    while (!ends) bell.ring();
  });
  while (heard_there < 1000) {
    listens = true;
    {
      const Listening listening(bell, [&] {
        if (std::this_thread::get_id() != here) ++heard_there;
        std::this_thread::yield();
        if (!listens) ++heard_too_late;
      });
    }
    listens = false;
  }
  ends = true;
  ringing.join();
  EXPECT_EQ(heard_too_late, 0);
}

}  // namespace
}  // namespace darkroom::http
