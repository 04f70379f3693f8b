#include "service/jobs/webhooks.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/text.h"
#include "service/blobs/hash.h"
#include "service/jobs/webhook_transfer.h"

namespace darkroom {
namespace {

constexpr int kAtOnce = 8;                 // messages of one round
constexpr std::chrono::seconds kLook(60);  // without a poke, in case the clock was set
constexpr std::chrono::seconds kFirstPause(5);
constexpr std::chrono::seconds kLastPause(6 * 3600);
constexpr int kGone = 410;  // HTTP's word for "never again"

std::int64_t seconds_since_1970(WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
}

}  // namespace

Result<void> check_webhook_url(const std::string& url) { return check_http_url(url); }

std::string sign_webhook(const std::string& secret, const std::string& id, std::int64_t timestamp,
                         const std::string& body) {
  return "v1," + encode_base64(hmac_sha256(secret, fmt::format("{}.{}.{}", id, timestamp, body)));
}

std::chrono::seconds webhook_pause(int attempt) {
  DR_ASSERT(attempt > 0);
  std::chrono::seconds pause = kFirstPause;
  for (int i = 1; i < attempt && pause < kLastPause; ++i) pause *= 4;
  return std::min(pause, kLastPause);
}

WebhookSender::WebhookSender(WebhookOptions options, JobStore& store)
    : options_(std::move(options)), store_(store), thread_([this] { serve(); }) {}

WebhookSender::~WebhookSender() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void WebhookSender::poke() {
  {
    const std::lock_guard lock(mutex_);
    poked_ = true;
  }
  changed_.notify_one();
}

bool WebhookSender::ending() {
  const std::lock_guard lock(mutex_);
  return ending_;
}

void WebhookSender::wait_for_work(std::chrono::seconds pause) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, pause, [&] { return ending_; });
  lock.unlock();
  const Result<std::optional<WallTime>> next = store_.next_webhook();
  WallTime::duration until_next = kLook;
  if (next && *next) until_next = std::clamp<WallTime::duration>(**next - WallTime::clock::now(), {}, kLook);
  lock.lock();
  changed_.wait_for(lock, until_next, [&] { return poked_ || ending_; });
  poked_ = false;
}

void WebhookSender::serve() {
  std::chrono::seconds pause(0);
  for (wait_for_work(pause); !ending(); wait_for_work(pause)) {
    // A database that cannot note what was delivered must not have it delivered as fast as the receiver answers.
    pause = send_round() ? std::chrono::seconds(0) : kFirstPause;
  }
}

bool WebhookSender::send_round() {
  const WallTime now = WallTime::clock::now();
  const Result<std::vector<WebhookMessage>> due = store_.due_webhooks(now, kAtOnce);
  if (!due) return false;
  const std::int64_t timestamp = seconds_since_1970(now);
  std::vector<WebhookRequest> requests;
  for (const WebhookMessage& message : *due) {
    WebhookRequest& request = requests.emplace_back();
    request = {.url = message.webhook.url,
               .headers = {"content-type: application/json", "webhook-id: " + message.id,
                           fmt::format("webhook-timestamp: {}", timestamp)},
               .body = message.body};
    if (message.webhook.secret_id.empty()) continue;
    if (const std::optional<std::string> secret = options_.secret(message.webhook.secret_id)) {
      request.headers.push_back("webhook-signature: " + sign_webhook(*secret, message.id, timestamp, message.body));
    }
  }
  const std::vector<Delivery> deliveries =
      post_all(requests, {.allow_private = options_.allow_private, .patience = options_.patience, .broken_off = [this] {
                            return ending();
                          }});
  if (ending()) return true;
  bool noted = true;
  for (std::size_t i = 0; i < deliveries.size(); ++i) noted = settle((*due)[i], deliveries[i]) && noted;
  return noted;
}

// Whether what came of it is in the store.
bool WebhookSender::settle(const WebhookMessage& message, const Delivery& delivery) {
  const int attempt = message.attempts + 1;
  const bool delivered = delivery.status >= 200 && delivery.status < 300;
  Result<void> settled;
  if (delivered || delivery.status == kGone || attempt >= options_.attempts) {
    if (!delivered) {
      options_.log(LogLevel::warning,
                   fmt::format("the webhook of job {} is given up after {} attempts: {}", message.id, attempt,
                               delivery.status > 0 ? fmt::format("status {}", delivery.status) : delivery.trouble));
    }
    settled = store_.drop_webhook(message.id);
  } else {
    settled = store_.retry_webhook(message.id, WallTime::clock::now() + webhook_pause(attempt));
  }
  if (!settled) options_.log(LogLevel::error, settled.error().message);
  return settled.has_value();
}

}  // namespace darkroom
