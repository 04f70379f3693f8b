// A server with a few routes of its own, as the tests of this folder need them.
#pragma once

#include <atomic>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "service/http/server.h"

namespace darkroom::http {

struct Seen {
  std::string route;
  int status = 0;
  bool complete = false;
};

class LiveServer : public testing::Test {
 protected:
  LiveServer();
  ~LiveServer() override;

  // To be called once; options may be changed before.
  void start();
  std::uint16_t port() const { return server_->port(); }
  std::vector<Seen> seen();

  ServerOptions options_;
  std::filesystem::path directory_;  // ours alone
  std::unique_ptr<Server> server_;
  std::atomic<bool> open_ = true;
  std::atomic<int> gone_ = 0;        // clients that went while they waited
  std::atomic<int> subscribed_ = 0;  // event streams whose subscription lives
  std::mutex mutex_;                 // over what follows
  std::vector<std::shared_ptr<Later>> waiting_;
  std::vector<std::shared_ptr<EventStream>> streams_;

 private:
  Router routes();
  Answer wait(const Request& request);
  Answer events(const Request& request);

  std::vector<Seen> seen_;
};

}  // namespace darkroom::http
