#include "service/jobs/webhooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/jobs/webhook_transfer.h"

namespace darkroom {
namespace {

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

TEST(Webhooks, APrivateAddressIsNotConnectedTo) {
  const std::vector<Delivery> deliveries =
      post_all({{.url = "http://127.0.0.1:9/x"}, {.url = "http://localhost:9/x"}, {.url = "http://[::1]:9/x"}},
               {.allow_private = false, .patience = 5s, .broken_off = [] { return false; }});
  ASSERT_EQ(deliveries.size(), 3U);
  for (const Delivery& delivery : deliveries) {
    EXPECT_EQ(delivery.status, 0);
    EXPECT_FALSE(delivery.trouble.empty());
  }
}

}  // namespace
}  // namespace darkroom
