// The SHA-256 of models, computed one after the other by a thread that everybody else goes before, and kept in a file:
// nobody waits for one.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "metadata/model_hashes.h"

namespace darkroom {

class ModelHasher {
 public:
  // `file` is where they are kept; one that is damaged is begun anew. `on_computed` comes from the hasher's
  // thread when there are new ones, at once for the last and now and then before.
  ModelHasher(std::filesystem::path file, std::function<void()> on_computed);
  ~ModelHasher();  // leaves what is half done
  ModelHasher(const ModelHasher&) = delete;
  ModelHasher& operator=(const ModelHasher&) = delete;

  // Those whose hash is known, by path; the others that are files are computed, in this order.
  std::map<std::string, std::string> known(const std::vector<std::string>& models);

 private:
  void run();
  bool compute(const std::string& model);  // whether it is known now

  const std::filesystem::path file_;
  const std::function<void()> on_computed_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  ModelHashes hashes_;
  std::deque<std::string> queue_;
  std::set<std::string> queued_;  // what is in the queue or under way
  bool untold_ = false;           // there are hashes of which nobody knows
  std::chrono::steady_clock::time_point told_{};
  std::atomic<bool> ends_ = false;
  std::thread thread_;
};

}  // namespace darkroom
