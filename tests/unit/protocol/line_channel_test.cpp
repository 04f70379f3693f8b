#include "protocol/line_channel.h"

#include <array>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/fd.h"

namespace darkroom {
namespace {

using testing::ElementsAre;

constexpr std::size_t kLimit = 10;

// Everything that a reader makes of the bytes.
std::vector<std::string> received(const std::string& bytes, std::size_t chunk) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  const Fd input{ends[0]};
  std::thread writer([&] {
    const Fd output{ends[1]};
    for (std::size_t i = 0; i < bytes.size(); i += chunk) {
      const std::string part = bytes.substr(i, chunk);
      EXPECT_EQ(::write(output.get(), part.data(), part.size()), static_cast<ssize_t>(part.size()));
    }
  });
  LineReader reader(input.get(), kLimit);
  std::vector<std::string> lines;
  while (lines.empty() || lines.back() != "<end>") {
    reader.read_some();
    while (const std::optional<Received> one = reader.take()) {
      lines.push_back(one->kind == Received::Kind::line
                          ? one->text
                          : (one->kind == Received::Kind::too_long ? "<too long>" : "<end>"));
      if (one->kind == Received::Kind::end) break;
    }
  }
  writer.join();
  return lines;
}

TEST(LineReader, GivesLinesHoweverTheyArrive) {
  for (const std::size_t chunk : {1U, 2U, 3U, 100U}) {
    EXPECT_THAT(received("one\n\ntwo\nrest", chunk), ElementsAre("one", "", "two", "rest", "<end>"));
  }
}

TEST(LineReader, DropsALineThatIsTooLongAndGoesOnAfterIt) {
  for (const std::size_t chunk : {1U, 7U, 1000U}) {
    EXPECT_THAT(
        received("0123456789\n" + std::string(500, 'x') + "\nnext\n" + std::string(11, 'y') + "\nlast\n", chunk),
        ElementsAre("0123456789", "<too long>", "next", "<too long>", "last", "<end>"));
  }
}

TEST(LineReader, ALongLineWithoutEndIsReportedOnce) {
  EXPECT_THAT(received(std::string(100'000, 'x'), 4096), ElementsAre("<too long>", "<end>"));
}

TEST(LineWriter, SaysWhenNobodyListens) {
  ::signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const Fd output{ends[1]};
  { const Fd closed{ends[0]}; }
  LineWriter writer(output.get());
  const Result<void> written = writer.write("hello");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::worker_lost);
}

TEST(LineWriter, LinesOfSeveralThreadsStayWhole) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const Fd input{ends[0]};
  std::thread both([&] {
    const Fd output{ends[1]};
    LineWriter writer(output.get());
    std::vector<std::thread> threads;
    for (const char letter : {'a', 'b'}) {
      threads.emplace_back([&writer, letter] {
        for (int i = 0; i < 50; ++i) EXPECT_TRUE(writer.write(std::string(20'000, letter)));
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  LineReader reader(input.get(), 20'000);
  int lines = 0;
  for (bool ended = false; !ended;) {
    reader.read_some();
    while (const std::optional<Received> one = reader.take()) {
      ended = one->kind == Received::Kind::end;
      if (ended) break;
      ASSERT_EQ(one->kind, Received::Kind::line);
      EXPECT_EQ(one->text, std::string(20'000, one->text.front()));
      ++lines;
    }
  }
  both.join();
  EXPECT_EQ(lines, 100);
}

}  // namespace
}  // namespace darkroom
