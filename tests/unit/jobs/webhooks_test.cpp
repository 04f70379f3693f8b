#include "service/jobs/webhooks.h"

#include <array>
#include <filesystem>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "service/jobs/webhook_transfer.h"
#include "service/store/sqlite_store.h"
#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

TEST(Webhooks, OnlyHttpIsSpoken) {
  EXPECT_TRUE(check_webhook_url("https://example.org/hook?a=b"));
  EXPECT_TRUE(check_webhook_url("http://example.org:8080"));
  EXPECT_TRUE(check_webhook_url("http://[2606:4700::1]/x"));
  for (const char* url : {"", "example.org", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/",
                          "http://", "https://user:word@example.org/", "http://user@example.org/", "http://a b/"}) {
    const Result<void> checked = check_webhook_url(url);
    ASSERT_FALSE(checked) << url;
    EXPECT_EQ(checked.error().code, ErrorCode::invalid_argument);
  }
}

TEST(Webhooks, PublicAddressesAreThoseThatEverybodyReaches) {
  for (const char* address : {"8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "100.63.0.1",
                              "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"}) {
    EXPECT_TRUE(is_public_address(address)) << address;
  }
  for (const char* address : {"127.0.0.1",
                              "127.9.9.9",
                              "0.0.0.0",
                              "10.1.2.3",
                              "172.16.0.1",
                              "172.31.255.255",
                              "192.168.0.1",
                              "169.254.169.254",
                              "100.64.0.1",
                              "224.0.0.1",
                              "240.0.0.1",
                              "255.255.255.255",
                              "192.0.2.1",
                              "198.18.0.1",
                              "::1",
                              "::",
                              "fe80::1",
                              "fc00::1",
                              "fd12::1",
                              "ff02::1",
                              "::ffff:127.0.0.1",
                              "::ffff:10.0.0.1",
                              "64:ff9b::7f00:1",
                              "2002:7f00:1::",
                              "2001::1",
                              "2001:db8::1",
                              "localhost",
                              ""}) {
    EXPECT_FALSE(is_public_address(address)) << address;
  }
}

// The vector of standardwebhooks.com: secret MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, as bytes of its base64.
TEST(Webhooks, TheSignatureIsTheStandards) {
  constexpr char kSecret[] =
      "\x31\xf2\x90\xf6\xbf\x06\x29\x8a\xab\x4f\x08\xd4\x3c\x3f\x08\x2c\xf6\x48\xa3\x62\xda\x2d\xa4\xb0";
  EXPECT_EQ(sign_webhook(kSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, R"({"test": 2432232314})"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(Webhooks, PausesGrowToAQuarterOfADay) {
  EXPECT_EQ(webhook_pause(1), 5s);
  EXPECT_EQ(webhook_pause(2), 20s);
  EXPECT_EQ(webhook_pause(6), 5120s);
  EXPECT_EQ(webhook_pause(8), 6h);
  EXPECT_EQ(webhook_pause(100), 6h);
}

// Answers every POST with the next of some statuses, and keeps what it got.
class Receiver {
 public:
  explicit Receiver(std::vector<int> statuses) : statuses_(std::move(statuses)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(socket_.get(), 8), 0);
    socklen_t size = sizeof address;
    ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    url_ = fmt::format("http://127.0.0.1:{}/hook", ntohs(address.sin_port));
    thread_ = std::thread([this] { serve(); });
  }
  ~Receiver() { finish(); }
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  const std::string& url() const { return url_; }
  // All requests, once as many came as there are statuses.
  std::vector<std::string> finish() {
    if (thread_.joinable()) thread_.join();
    return requests_;
  }

 private:
  void serve() {
    for (const int status : statuses_) {
      const Fd connection{::accept(socket_.get(), nullptr, nullptr)};
      requests_.push_back(read_request(connection.get()));
      const std::string answer = fmt::format("HTTP/1.1 {} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", status);
      EXPECT_EQ(::send(connection.get(), answer.data(), answer.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(answer.size()));
    }
  }
  static std::string read_request(int fd) {
    std::string request;
    std::array<char, 4096> chunk;
    while (true) {
      const std::size_t head = request.find("\r\n\r\n");
      const std::size_t length = request.find("Content-Length: ");
      if (head != std::string::npos && length != std::string::npos &&
          request.size() >= head + 4 + std::stoul(request.substr(length + 16))) {
        return request;
      }
      const ssize_t got = ::recv(fd, chunk.data(), chunk.size(), 0);
      if (got <= 0) return request;
      request.append(chunk.data(), static_cast<std::size_t>(got));
    }
  }

  std::vector<int> statuses_;
  Fd socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::string url_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

class DeliveryTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("webhooks");
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    store_ = *open_sqlite_store(directory_ / "jobs.db");
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  // A job that has ended and wants that to be told.
  void end_a_job(const std::string& url, const std::string& id) {
    Submission submission;
    submission.spec.model = "m";
    submission.spec.prompt = "a lake";
    submission.webhook = {.url = url, .secret_id = "s"};
    const WallTime now = WallTime::clock::now();
    ASSERT_TRUE(store_->admit({.submission = submission, .id = id, .cost = 1.0, .max_queued = 9, .now = now}));
    ASSERT_TRUE(store_->cancel(id, now));
  }
  static WebhookOptions options() {
    return {.attempts = 3,
            .allow_private = true,
            .secret = [](const std::string& id) { return std::optional("secret of " + id); },
            .log = [](LogLevel, const std::string&) {}};
  }
  void wait_until_nothing_is_due() {
    while (!store_->due_webhooks(WallTime::clock::now(), 1)->empty()) std::this_thread::sleep_for(2ms);
  }

  std::filesystem::path directory_;
  std::unique_ptr<JobStore> store_;
};

TEST_F(DeliveryTest, AMessageArrivesSignedAndLeavesTheOutbox) {
  Receiver receiver({200, 204});
  end_a_job(receiver.url(), "job1");
  end_a_job(receiver.url(), "job2");
  const WebhookSender sender(options(), *store_);
  const std::vector<std::string> requests = receiver.finish();
  wait_until_nothing_is_due();
  EXPECT_EQ(*store_->next_webhook(), std::nullopt);
  ASSERT_EQ(requests.size(), 2U);
  const std::string& request = requests[0];
  EXPECT_THAT(request, testing::StartsWith("POST /hook HTTP/1.1\r\n"));
  const std::string body = request.substr(request.find("\r\n\r\n") + 4);
  EXPECT_THAT(body, HasSubstr("\"type\":\"job.cancelled\""));
  const auto header = [&](const std::string& name) {
    const std::size_t start = request.find("\r\n" + name + ": ") + name.size() + 4;
    return request.substr(start, request.find("\r\n", start) - start);
  };
  EXPECT_EQ(header("webhook-signature"),
            sign_webhook("secret of s", header("webhook-id"), std::stol(header("webhook-timestamp")), body));
}

TEST_F(DeliveryTest, WhatIsRefusedIsTriedLaterAndWhatIsGoneNeverAgain) {
  Receiver receiver({500, 302, 410});
  for (const char* id : {"job1", "job2", "job3"}) end_a_job(receiver.url(), id);
  const WebhookSender sender(options(), *store_);
  EXPECT_EQ(receiver.finish().size(), 3U);  // the redirection is not followed
  wait_until_nothing_is_due();
  const std::vector<WebhookMessage> later = *store_->due_webhooks(WallTime::clock::now() + webhook_pause(1), 9);
  ASSERT_EQ(later.size(), 2U);
  EXPECT_EQ(later[0].attempts, 1);
}

TEST_F(DeliveryTest, TheLastAttemptIsTheLast) {
  end_a_job("http://127.0.0.1:1/", "job1");  // nobody listens
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(store_->retry_webhook("job1", WallTime::clock::now()));
  const WebhookSender sender(options(), *store_);
  wait_until_nothing_is_due();
  EXPECT_EQ(*store_->next_webhook(), std::nullopt);
}

TEST_F(DeliveryTest, AnEndInTheMiddleLeavesTheMessageForTheNextOne) {
  const Fd deaf{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};  // takes connections and says nothing
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(deaf.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(deaf.get(), 8), 0);
  socklen_t size = sizeof address;
  ::getsockname(deaf.get(), reinterpret_cast<sockaddr*>(&address), &size);
  end_a_job(fmt::format("http://127.0.0.1:{}/", ntohs(address.sin_port)), "job1");
  {
    const WebhookSender sender(options(), *store_);
    const Fd connection{::accept(deaf.get(), nullptr, nullptr)};
  }
  EXPECT_TRUE(*store_->next_webhook());
}

TEST(Webhooks, APrivateAddressIsConnectedToOnlyWhereThatIsAllowed) {
  Receiver receiver({200});
  const auto post = [&](bool allow_private, const std::string& url) {
    return post_all({{.url = url}},
                    {.allow_private = allow_private, .patience = 5s, .broken_off = [] { return false; }})[0]
        .status;
  };
  std::string by_name = receiver.url();
  by_name.replace(by_name.find("127.0.0.1"), 9, "localhost");
  EXPECT_EQ(post(false, receiver.url()), 0);
  EXPECT_EQ(post(false, by_name), 0);
  EXPECT_EQ(post(true, receiver.url()), 200);
}

}  // namespace
}  // namespace darkroom
