// Delivers what waits in the outbox: signed, again and again with growing pauses, each message with one id for ever.
// Headers and signature are those of standardwebhooks.com:
//   webhook-id, webhook-timestamp, webhook-signature: v1,base64(HMAC-SHA256(secret, id.timestamp.body))
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "service/store/job_store.h"

namespace darkroom {

// Error invalid_argument: no http or https URL, or one with a user name.
Result<void> check_webhook_url(const std::string& url);

std::string sign_webhook(const std::string& secret, const std::string& id, std::int64_t timestamp,
                         const std::string& body);

// How long to wait after an attempt with this number, from 1.
std::chrono::seconds webhook_pause(int attempt);

struct Delivery;  // webhook_transfer.h

struct WebhookOptions {
  int attempts = 12;
  bool allow_private = false;         // addresses of this machine and of private networks
  std::chrono::seconds patience{10};  // for one attempt
  std::function<std::optional<std::string>(const std::string& secret_id)> secret;
  std::function<void(LogLevel, const std::string&)> log;
};

class WebhookSender {
 public:
  WebhookSender(WebhookOptions options, JobStore& store);
  ~WebhookSender();  // what is under way is broken off and sent again by the next one
  WebhookSender(const WebhookSender&) = delete;
  WebhookSender& operator=(const WebhookSender&) = delete;

  // There may be something new in the outbox. From any thread.
  void poke();

 private:
  void serve();
  bool send_round();
  bool settle(const WebhookMessage& message, const Delivery& delivery);
  bool ending();
  // Until there is something to do, and at least for `pause`.
  void wait_for_work(std::chrono::seconds pause);

  WebhookOptions options_;
  JobStore& store_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool poked_ = true;
  bool ending_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace darkroom
