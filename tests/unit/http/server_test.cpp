// A real server over loopback, and clients that behave as they like.
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/http/event_stream.h"
#include "service/http/later.h"
#include "tests/support/raw_client.h"
#include "tests/unit/http/live_server.h"

namespace darkroom::http {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view kHello = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

// Until it holds; the test's own time limit ends what never does.
template <class Condition>
void eventually(Condition condition) {
  while (!condition()) std::this_thread::sleep_for(milliseconds(5));
}

// --- Requests as they should be ---

TEST_F(LiveServer, AnswersAndKeepsTheConnection) {
  start();
  RawClient client(port());
  for (int i = 0; i < 3; ++i) {
    client.send(kHello);
    const RawResponse response = client.read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "hello");
    EXPECT_EQ(response.header("Connection"), "keep-alive");
    EXPECT_EQ(response.header("X-Content-Type-Options"), "nosniff");
    EXPECT_THAT(response.header("Date"), testing::EndsWith(" GMT"));
    EXPECT_EQ(response.header("X-Request-Id").size(), 32U);
  }
}

TEST_F(LiveServer, AnswersPipelinedRequestsInTheirOrder) {
  start();
  RawClient client(port());
  std::string all;
  for (int i = 0; i < 20; ++i) {
    const std::string body = fmt::format("body {}", i);
    all += fmt::format("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}", body.size(), body);
  }
  client.send(all);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read().body, fmt::format("body {}", i));
}

TEST_F(LiveServer, SpeaksHttp10) {
  start();
  RawClient client(port());
  client.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.read().body, "hello");
  EXPECT_TRUE(client.is_closed());
  RawClient keeper(port());
  keeper.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_EQ(keeper.read().header("Connection"), "keep-alive");
  keeper.send("GET /events?end HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");  // no chunks: the end is the connection's
  const RawResponse events = keeper.read();
  EXPECT_EQ(events.header("Transfer-Encoding"), "");
  EXPECT_THAT(events.body, StartsWith("id: 1\nevent: step\ndata: {}\n\nid: 2"));
  EXPECT_TRUE(keeper.is_closed());
}

TEST_F(LiveServer, TakesBodiesOfKnownAndUnknownLength) {
  start();
  RawClient client(port());
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n");
  client.send("0\r\nTrailer: t\r\n\r\n");
  EXPECT_EQ(client.read().body, "abcde");
  const std::string large(5'000'000, 'y');
  client.send(fmt::format("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", large.size()));
  client.send(large);
  EXPECT_EQ(client.read().body, large);
}

TEST_F(LiveServer, AsksForABodyThatWaitsForItsWord) {
  start();
  RawClient client(port());
  client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read().status, 100);
  client.send("ok");
  EXPECT_EQ(client.read().body, "ok");
  client.send("POST /secret HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.read().status, 401);
  EXPECT_TRUE(client.is_closed());  // what would come now might be the body, or not
}

TEST_F(LiveServer, HeadHasTheHeadersAndNoBody) {
  start();
  RawClient client(port());
  client.send("HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD /file HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send("HEAD /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.send(kHello);
  EXPECT_EQ(client.read_head().header("Content-Length"), "5");
  EXPECT_EQ(client.read_head().header("Content-Length"), "10");
  EXPECT_EQ(client.read_head().header("Content-Type"), "text/event-stream");
  EXPECT_EQ(client.read().body, "hello");
}

TEST_F(LiveServer, ForgivesALastSlashAndABareQuestionMark) {
  options_.path_prefix = "/darkroom";
  start();
  for (const char* target : {"/hello", "/hello/", "/hello?", "/hello/?", "/darkroom/hello", "/hello?a=b",
                             "http://localhost/hello", "/%68ello"}) {
    EXPECT_EQ(request(port(), "GET", target).body, "hello") << target;
  }
}

TEST_F(LiveServer, ServesFilesWithRangesAndTags) {
  start();
  const auto file = [&](std::string_view headers) { return request(port(), "GET", "/file", headers); };
  EXPECT_EQ(file("").body, "0123456789");
  EXPECT_EQ(file("").header("ETag"), "\"tag\"");
  const RawResponse part = file("Range: bytes=2-4\r\n");
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.body, "234");
  EXPECT_EQ(part.header("Content-Range"), "bytes 2-4/10");
  EXPECT_EQ(file("Range: bytes=-3\r\n").body, "789");
  EXPECT_EQ(file("Range: bytes=10-\r\n").status, 416);
  EXPECT_EQ(file("Range: bytes=10-\r\n").header("Content-Range"), "bytes */10");
  EXPECT_EQ(file("Range: bytes=2-4\r\nIf-Range: \"other\"\r\n").body, "0123456789");
  EXPECT_EQ(file("Range: bytes=2-4\r\nIf-Range: \"tag\"\r\n").body, "234");
  const RawResponse same = file("If-None-Match: \"x\", \"tag\"\r\n");
  EXPECT_EQ(same.status, 304);
  EXPECT_EQ(same.header("ETag"), "\"tag\"");
}

TEST_F(LiveServer, GivesLargeAnswersToSlowReaders) {
  start();
  RawClient client(port());
  client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(50));  // the socket's buffers fill
  EXPECT_EQ(client.read().body, std::string(3'000'000, 'x'));
}

TEST_F(LiveServer, RequestIdsComeBackUnlessTheyCouldNotStandInALog) {
  start();
  EXPECT_EQ(request(port(), "GET", "/hello", "X-Request-Id: abc-1.2_3\r\n").header("X-Request-Id"), "abc-1.2_3");
  EXPECT_EQ(request(port(), "GET", "/hello", "X-Request-Id: \"a b\"\r\n").header("X-Request-Id").size(), 32U);
  EXPECT_EQ(request(port(), "GET", "/hello", fmt::format("X-Request-Id: {}\r\n", std::string(200, 'a')))
                .header("X-Request-Id")
                .size(),
            32U);
}

TEST_F(LiveServer, FiftyClientsAtOnceGetTheirOwnAnswers) {
  start();
  constexpr int kClients = 50;
  constexpr int kRequests = 20;
  std::atomic<int> right = 0;
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      RawClient client(port());
      for (int i = 0; i < kRequests; ++i) {
        const std::string body = fmt::format("client {} request {}", c, i);
        client.send(
            fmt::format("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
        if (client.read().body == body) ++right;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, kClients * kRequests);
  eventually([&] { return server_->connections() == 0; });
}

// --- Problems ---

TEST_F(LiveServer, ProblemsAreWordedForTheirPath) {
  start();
  const RawResponse missing = request(port(), "GET", "/nothing");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.header("Content-Type"), "application/problem+json");
  EXPECT_THAT(missing.body, HasSubstr(missing.header("X-Request-Id")));
  EXPECT_EQ(request(port(), "GET", "/own/nothing").body, "own words");
  const RawResponse wrong = request(port(), "PUT", "/echo");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.header("Allow"), "POST");
  EXPECT_EQ(request(port(), "BREW", "/echo").status, 405);
  const RawResponse broken = request(port(), "GET", "/break");
  EXPECT_EQ(broken.status, 500);
  EXPECT_THAT(broken.body, HasSubstr("broken"));
}

TEST_F(LiveServer, WithoutAKeyTheBodyIsNotEvenRead) {
  options_.body_bytes = 10'000'000;
  start();
  RawClient client(port());
  client.send("POST /secret HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n");
  const RawResponse response = client.read();
  EXPECT_EQ(response.status, 401);
  EXPECT_EQ(response.header("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(request(port(), "POST", "/secret", "Authorization: Bearer good\r\n", "x").body, "k1");
  RawClient small(port());  // a small body is taken, so that the connection stays
  small.send("POST /secret HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc");
  small.send(kHello);
  EXPECT_EQ(small.read().status, 401);
  EXPECT_EQ(small.read().body, "hello");
}

TEST_F(LiveServer, LimitsBodies) {
  options_.body_bytes = 100'000;
  start();
  EXPECT_EQ(request(port(), "POST", "/echo", "", std::string(100'000, 'x')).status, 200);
  EXPECT_EQ(request(port(), "POST", "/echo", "Content-Length: 100001\r\n").status, 413);
  EXPECT_EQ(request(port(), "POST", "/echo", "Content-Length: 9000000000000000000\r\n").status, 413);
  EXPECT_EQ(request(port(), "POST", "/echo", "Content-Length: 99999999999999999999999\r\n").status, 400);
  RawClient client(port());
  client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "2710\r\n" + std::string(10'000, 'x') + "\r\n";
  for (int i = 0; i < 20 && client.send(chunk); ++i) {
  }
  EXPECT_EQ(client.read().status, 413);
}

TEST_F(LiveServer, UnpacksNoBody) {
  start();
  for (const char* packing : {"gzip", "deflate", "br", "zstd", "identity, gzip"}) {
    const RawResponse refused = request(port(), "POST", "/echo", fmt::format("Content-Encoding: {}\r\n", packing), "x");
    EXPECT_EQ(refused.status, 415) << packing;
    EXPECT_THAT(refused.body, HasSubstr(packing));
  }
  EXPECT_EQ(request(port(), "POST", "/echo", "Content-Encoding: identity\r\n", "x").status, 200);
}

TEST_F(LiveServer, LimitsAllBodiesTogether) {
  options_.buffered_bytes = 50'000;
  start();
  const RawResponse response = request(port(), "POST", "/echo", "", std::string(100'000, 'x'));
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.header("Retry-After"), "5");
  EXPECT_EQ(request(port(), "POST", "/echo", "", std::string(40'000, 'x')).status, 200);  // it was given back
}

TEST_F(LiveServer, LimitsHeads) {
  start();
  EXPECT_EQ(request(port(), "GET", "/hello", fmt::format("X: {}\r\n", std::string(40'000, 'x'))).status, 431);
  std::string many;
  for (int i = 0; i < 200; ++i) many += fmt::format("X-{}: y\r\n", i);
  EXPECT_EQ(request(port(), "GET", "/hello", many).status, 431);
  EXPECT_EQ(request(port(), "GET", "/" + std::string(9'000, 'x')).status, 414);
  RawClient flood(port());
  flood.send("GET /hello HTTP/1.1\r\n");
  for (int i = 0; i < 100'000 && flood.send("X-Header: value\r\n"); ++i) {
  }
  EXPECT_EQ(flood.read().status, 431);
}

TEST_F(LiveServer, SlowHeadsAndBodiesAreGivenUp) {
  options_.header_time = seconds(1);
  options_.body_time = seconds(1);
  options_.idle_time = seconds(1);
  start();
  RawClient head(port());
  RawClient body(port());
  RawClient silent(port());
  RawClient idle(port());
  head.send("GET /hello HT");
  body.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc");
  idle.send(kHello);
  EXPECT_EQ(idle.read().status, 200);
  EXPECT_EQ(head.read().status, 408);
  EXPECT_EQ(body.read().status, 408);
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(idle.is_closed());
}

TEST_F(LiveServer, ADrippingHeadDoesNotMoveTheDeadline) {
  options_.header_time = seconds(1);
  start();
  RawClient client(port());
  client.send("GET /hello HTTP/1.1\r\nX: ");
  while (client.send("y")) std::this_thread::sleep_for(milliseconds(100));
  SUCCEED();  // it ends
}

TEST_F(LiveServer, AReaderThatStopsIsCut) {
  options_.write_time = seconds(1);
  start();
  RawClient client(port());
  std::string requests;
  for (int i = 0; i < 20; ++i) requests += "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
  client.send(requests);
  eventually([&] { return !seen().empty() && !seen().back().complete; });
  eventually([&] { return server_->connections() == 0; });
}

TEST_F(LiveServer, WhatIsNotHttpIsRefused) {
  start();
  for (const char* text :
       {"hello\r\n\r\n", "GET\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",  // no host
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nX\x01Y: z\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        // Two readings of where the body ends, by which a request is smuggled past a proxy.
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"}) {
    RawClient client(port());
    client.send(text);
    EXPECT_EQ(client.read().status, 400) << text;
    EXPECT_TRUE(client.is_closed()) << text;
  }
  RawClient two(port());
  two.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_EQ(two.read().status, 505);
}

TEST_F(LiveServer, PathsDoNotLeadElsewhere) {
  start();
  for (const char* target : {"/../etc/passwd", "/hello/../hello", "/%2e%2e/etc/passwd", "/..%2fetc", "/hello%00",
                             "/..%5cwindows", "/%c0%ae%c0%ae/etc/passwd"}) {
    EXPECT_EQ(request(port(), "GET", target).status, 400) << target;
  }
}

TEST_F(LiveServer, AValueCannotBeginAnotherHeader) {
  start();
  const RawResponse response = request(port(), "GET", "/header?word=a%0D%0AX-Evil:%20b");
  EXPECT_EQ(response.header("X-Word"), "a  X-Evil: b");
  EXPECT_EQ(response.header("X-Evil"), "");
}

// --- Names, pages, proxies ---

TEST_F(LiveServer, AReboundNameIsTurnedAwayWhileNoKeyIsNeeded) {
  options_.guard.hosts = {"my-box.lan"};
  start();
  const auto asked_as = [&](std::string_view host) {
    RawClient client(port());
    client.send(fmt::format("GET /hello HTTP/1.1\r\nHost: {}\r\n\r\n", host));
    return client.read().status;
  };
  EXPECT_EQ(asked_as("evil.example"), 421);
  EXPECT_EQ(asked_as("my-box.lan:1234"), 200);
  EXPECT_EQ(asked_as("[::1]:7860"), 200);
  open_ = false;
  EXPECT_EQ(asked_as("evil.example"), 200);
}

TEST_F(LiveServer, PagesNeedToBeNamed) {
  options_.guard.origins = {"https://page.example"};
  start();
  const std::string page = "Origin: https://page.example\r\n";
  const std::string evil = "Origin: https://evil.example\r\n";
  EXPECT_EQ(request(port(), "POST", "/echo", evil, "x").status, 403);
  EXPECT_EQ(request(port(), "POST", "/echo", "Origin: http://127.0.0.1\r\n", "x").status, 200);  // our own
  const RawResponse allowed = request(port(), "POST", "/echo", page, "x");
  EXPECT_EQ(allowed.status, 200);
  EXPECT_EQ(allowed.header("Access-Control-Allow-Origin"), "https://page.example");
  EXPECT_EQ(request(port(), "GET", "/hello", evil).header("Access-Control-Allow-Origin"), "");
  // An error too can be read by a page that may read.
  EXPECT_EQ(request(port(), "GET", "/nothing", page).header("Access-Control-Allow-Origin"), "https://page.example");
  const RawResponse preflight = request(port(), "OPTIONS", "/secret", page + "Access-Control-Request-Method: POST\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.header("Access-Control-Allow-Methods"), "POST, OPTIONS");
  EXPECT_EQ(request(port(), "OPTIONS", "/hello").header("Allow"), "GET, HEAD, OPTIONS");
}

TEST_F(LiveServer, ATrustedProxySaysWhoAsksAndUnderWhatName) {
  options_.trusted_proxies = {"127.0.0.1"};
  options_.path_prefix = "/p";
  start();
  EXPECT_EQ(request(port(), "GET", "/who",
                    "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
                    "X-Forwarded-Host: pics.example\r\n")
                .body,
            "203.0.113.9 https://pics.example/p");
  EXPECT_EQ(request(port(), "GET", "/who").body, "127.0.0.1 http://127.0.0.1/p");
}

TEST_F(LiveServer, OtherClientsSayNothingAboutThemselves) {
  options_.public_url = "https://public.example";
  start();
  EXPECT_EQ(request(port(), "GET", "/who", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\n").body,
            "127.0.0.1 https://public.example");
}

TEST_F(LiveServer, ConnectionsAreCounted) {
  options_.connections = 2;
  start();
  RawClient one(port());
  RawClient two(port());
  one.send(kHello);
  two.send(kHello);
  EXPECT_EQ(one.read().status, 200);
  EXPECT_EQ(two.read().status, 200);
  RawClient three(port());
  EXPECT_EQ(three.read().status, 503);
  EXPECT_EQ(server_->refused_connections(), 1U);
  one.hang_up();
  eventually([&] { return server_->connections() < 2; });
  EXPECT_EQ(request(port(), "GET", "/hello").status, 200);
}

// --- Waiting and events ---

TEST_F(LiveServer, ManyWaitWithoutAThreadEach) {
  options_.handler_threads = 2;
  start();
  constexpr std::size_t kClients = 100;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (std::size_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<RawClient>(port()));
    clients.back()->send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
  }
  eventually([&] {
    const std::lock_guard lock(mutex_);
    return waiting_.size() == kClients;
  });
  EXPECT_EQ(request(port(), "GET", "/hello").body, "hello");  // there is a thread for others
  for (const auto& later : waiting_) later->bell().ring();
  for (const auto& client : clients) EXPECT_EQ(client->read().body, "waited");
}

TEST_F(LiveServer, AWaitEndsAtItsDeadline) {
  start();
  EXPECT_EQ(request(port(), "GET", "/wait?s=0").body, "waited");
  EXPECT_EQ(request(port(), "GET", "/wait?s=1").body, "waited");
}

TEST_F(LiveServer, AClientThatGoesWhileItWaitsIsNoticed) {
  start();
  {
    RawClient client(port());
    client.send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
    eventually([&] {
      const std::lock_guard lock(mutex_);
      return !waiting_.empty();
    });
  }
  eventually([&] { return gone_ == 1; });
  eventually([&] { return server_->connections() == 0; });
  EXPECT_EQ(seen().back().status, 0);
}

TEST_F(LiveServer, EventsComeAsTheyHappenAndResumeWhereTheClientWas) {
  start();
  RawClient client(port());
  client.send("GET /events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 2\r\n\r\n");
  EXPECT_EQ(client.read_head().header("Content-Type"), "text/event-stream");
  EXPECT_THAT(client.read_until("\n\n"), HasSubstr("id: 3\nevent: step"));
  streams_.front()->send({.id = "4", .name = "done", .data = "x"});
  EXPECT_THAT(client.read_until("\n\n"), HasSubstr("id: 4\nevent: done\ndata: x"));
  EXPECT_EQ(subscribed_, 1);
  streams_.front()->finish();
  client.read_until("0\r\n\r\n");
  eventually([&] { return subscribed_ == 0; });
  client.send(kHello);  // the connection lives on
  EXPECT_EQ(client.read().body, "hello");
}

TEST_F(LiveServer, ASilentEventStreamShowsThatItLives) {
  options_.event_comment_time = seconds(0);
  start();
  RawClient client(port());
  client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.read_until("id: 3\nevent: step\ndata: {}\n\n");
  EXPECT_THAT(client.read_until(":\n\n"), HasSubstr(":\n\n"));
}

TEST_F(LiveServer, AListenerThatGoesEndsItsSubscription) {
  start();
  RawClient client(port());
  client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  client.read_until("id: 3");
  EXPECT_EQ(subscribed_, 1);
  client.hang_up();
  eventually([&] { return subscribed_ == 0; });
}

// --- The end ---

TEST_F(LiveServer, DrainingFinishesWhatIsUnderWayAndNothingElse) {
  start();
  RawClient idle(port());
  idle.send(kHello);
  EXPECT_EQ(idle.read().status, 200);
  RawClient waiting(port());
  waiting.send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
  eventually([&] {
    const std::lock_guard lock(mutex_);
    return !waiting_.empty();
  });
  server_->drain();
  EXPECT_TRUE(idle.is_closed());
  waiting_.front()->bell().ring();
  const RawResponse response = waiting.read();
  EXPECT_EQ(response.body, "waited");
  EXPECT_EQ(response.header("Connection"), "close");
  server_->finish(seconds(30));
  EXPECT_EQ(server_->connections(), 0);
}

TEST_F(LiveServer, TheEndAnswersThoseWhoWaitAndEndsEvents) {
  start();
  RawClient waiting(port());
  waiting.send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n");
  RawClient listening(port());
  listening.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
  listening.read_until("id: 3");
  eventually([&] {
    const std::lock_guard lock(mutex_);
    return !waiting_.empty();
  });
  server_->drain();
  server_->finish(seconds(30));
  EXPECT_EQ(waiting.read().body, "waited");
  EXPECT_THAT(listening.read_until("0\r\n\r\n"), testing::EndsWith("0\r\n\r\n"));
  EXPECT_EQ(subscribed_, 0);
}

TEST_F(LiveServer, TheEndCutsThoseWhoDoNotComeToOne) {
  start();
  RawClient client(port());
  client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc");
  eventually([&] { return server_->connections() == 1; });
  server_->drain();
  server_->finish(milliseconds(10));
  EXPECT_EQ(server_->connections(), 0);
}

TEST_F(LiveServer, ATakenPortIsAnError) {
  start();
  ServerOptions same;
  same.port = port();
  const auto second = Server::start(same, Router(), {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::conflict);
  ServerOptions bad;
  bad.address = "no address";
  EXPECT_FALSE(Server::start(bad, Router(), {}));
}

}  // namespace
}  // namespace darkroom::http
