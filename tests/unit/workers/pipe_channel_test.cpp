#include "service/workers/pipe_channel.h"

#include <condition_variable>
#include <deque>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class PipeChannelTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("channel");
    fs::remove_all(directory_);
    fs::create_directories(directory_ / "spool" / "own");
  }
  void TearDown() override {
    channel_.reset();
    fs::remove_all(directory_);
  }

  void start() {
    Result<std::unique_ptr<WorkerChannel>> channel =
        start_child(fs::path(DARKROOM_BINARY_DIR) / "bin" / "rogue-worker",
                    {"--outputs", (directory_ / "spool" / "own").string()}, [this](WorkerArrival arrival) {
                      const std::lock_guard lock(mutex_);
                      arrivals_.push_back(std::move(arrival));
                      changed_.notify_all();
                    });
    ASSERT_TRUE(channel) << channel.error().message;
    channel_ = std::move(*channel);
  }
  WorkerArrival next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !arrivals_.empty(); });
    WorkerArrival arrival = std::move(arrivals_.front());
    arrivals_.pop_front();
    return arrival;
  }
  // The next arrival that is a T.
  template <class T>
  T next_of() {
    while (true) {
      WorkerArrival arrival = next();
      if (T* found = std::get_if<T>(&arrival)) return std::move(*found);
    }
  }
  static Request generate(const std::string& prompt) {
    GenerationRequest request;
    request.spec.model = "m";
    request.spec.prompt = prompt;
    request.spec.steps = 1;
    request.spec.output.path = "j/p.png";
    return {.request_id = "j", .body = request};
  }

  fs::path directory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<WorkerArrival> arrivals_;
  std::unique_ptr<WorkerChannel> channel_;
};

TEST_F(PipeChannelTest, AWorkerIsHeardAskedAndEndsWhenNothingMoreWillCome) {
  start();
  EXPECT_TRUE(std::holds_alternative<Ready>(std::get<Event>(next_of<WorkerMessage>()).body));
  channel_->send({{.request_id = "q", .body = AskStatus{}}});
  EXPECT_EQ(std::get<Response>(next_of<WorkerMessage>()).request_id, "q");
  channel_->close();
  const auto status = next_of<ExitStatus>();
  EXPECT_EQ(status.code, 0);
  EXPECT_EQ(status.signal, 0);
}

TEST_F(PipeChannelTest, AKilledWorkersEndSaysSo) {
  start();
  next();
  channel_->kill();
  EXPECT_EQ(next_of<ExitStatus>().signal, SIGKILL);
}

TEST_F(PipeChannelTest, GarbageIsShownInPrintableCharacters) {
  start();
  channel_->send({generate("garbage")});
  EXPECT_THAT(next_of<Garbage>().what, HasSubstr("\"this is no message ??\""));
}

TEST_F(PipeChannelTest, SendingToAWorkerThatDoesNotReadWaitsForNothing) {
  start();
  next();
  channel_->send({generate("deaf")});
  Request large = generate("more than a pipe holds");
  std::get<GenerationRequest>(large.body).spec.init_image =
      ImageSource{.path = "", .bytes = std::string(3'000'000, 'x')};
  for (int i = 0; i < 3; ++i) channel_->send({large});
  channel_->terminate();  // a stopped process does not even hear that
  channel_->kill();
  EXPECT_EQ(next_of<ExitStatus>().signal, SIGKILL);
}

TEST_F(PipeChannelTest, AMessageOfManyPipesLengthsArrivesWhole) {
  start();
  next();
  Request large = generate("x");
  std::get<GenerationRequest>(large.body).spec.init_image =
      ImageSource{.path = "", .bytes = std::string(3'000'000, 'x')};
  channel_->send({large});
  while (true) {
    const auto message = next_of<WorkerMessage>();
    const auto* response = std::get_if<Response>(&message);
    if (response == nullptr) continue;
    EXPECT_FALSE(response->refusal) << response->refusal->error.message;
    break;
  }
}

TEST_F(PipeChannelTest, TheWorkerGoesWithItsChannel) {
  start();
  next();
  channel_->send({generate("stubborn")});
  channel_.reset();
  EXPECT_EQ(next_of<ExitStatus>().signal, SIGKILL);
}

TEST_F(PipeChannelTest, AProgramThatIsNotThereIsAnError) {
  const auto channel = start_child("/no/such/program", {}, [](const WorkerArrival&) {});
  ASSERT_FALSE(channel);
  EXPECT_EQ(channel.error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace darkroom
