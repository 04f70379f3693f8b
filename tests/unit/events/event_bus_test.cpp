// The contract of EventBus.
#include "service/events/event_bus.h"

#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace darkroom {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

JobEvent event(const std::string& job, const std::string& id) {
  JobEvent event{.id = id};
  event.job.id = job;
  return event;
}

class EventBusTest : public testing::Test {
 protected:
  std::shared_ptr<void> listen(const std::string& job, std::vector<std::string>& heard,
                               const std::optional<JobEvent>& first = std::nullopt) {
    return bus_->subscribe(
        job, [first] { return first; }, [&heard](const JobEvent& e) { heard.push_back(e.id); });
  }

  std::unique_ptr<EventBus> bus_ = make_local_event_bus();
};

TEST_F(EventBusTest, AListenerHearsOfItsJobFromItsFirstEventToItsEnd) {
  std::vector<std::string> heard;
  bus_->publish(event("a", "before"));
  std::shared_ptr<void> subscription = listen("a", heard, event("a", "first"));
  bus_->publish(event("a", "1"));
  bus_->publish(event("b", "2"));
  bus_->publish(event("a", "3"));
  subscription.reset();
  bus_->publish(event("a", "after"));
  EXPECT_THAT(heard, ElementsAre("first", "1", "3"));
}

TEST_F(EventBusTest, EveryListenerHearsAndOneMayGoWhileOthersStay) {
  std::vector<std::string> one;
  std::vector<std::string> two;
  std::shared_ptr<void> first = listen("a", one);
  const std::shared_ptr<void> second = listen("a", two);
  bus_->publish(event("a", "1"));
  first.reset();
  bus_->publish(event("a", "2"));
  EXPECT_THAT(one, ElementsAre("1"));
  EXPECT_THAT(two, ElementsAre("1", "2"));
}

TEST_F(EventBusTest, ItKnowsWhoIsListenedTo) {
  std::vector<std::string> heard;
  EXPECT_FALSE(bus_->has_listeners("a"));
  std::shared_ptr<void> subscription = listen("a", heard);
  EXPECT_TRUE(bus_->has_listeners("a"));
  EXPECT_THAT(bus_->listened(), ElementsAre("a"));
  subscription.reset();
  EXPECT_FALSE(bus_->has_listeners("a"));
  EXPECT_THAT(bus_->listened(), IsEmpty());
}

TEST_F(EventBusTest, ASubscriptionMayOutliveTheBus) {
  std::vector<std::string> heard;
  const std::shared_ptr<void> subscription = listen("a", heard);
  bus_.reset();
}

TEST_F(EventBusTest, NothingIsHeardOnceTheSubscriptionIsGone) {
  std::atomic<bool> stop = false;
  std::thread publisher([&] {
    while (!stop) bus_->publish(event("a", "x"));
  });
  for (int i = 0; i < 200; ++i) {
    bool alive = true;
    bool heard_late = false;
    std::shared_ptr<void> subscription = bus_->subscribe(
        "a", [] { return std::nullopt; }, [&](const JobEvent&) { heard_late = heard_late || !alive; });
    subscription.reset();
    alive = false;  // and then it goes: what is heard now would be a use after its end
    EXPECT_FALSE(heard_late);
  }
  stop = true;
  publisher.join();
}

}  // namespace
}  // namespace darkroom
