#include "base/subprocess.h"

#include <array>
#include <csignal>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace darkroom {
namespace {

using namespace std::chrono_literals;

std::string read_all(int fd) {
  std::string text;
  std::array<char, 256> chunk;
  for (ssize_t count = 0; (count = ::read(fd, chunk.data(), chunk.size())) > 0;) {
    text.append(chunk.data(), static_cast<std::size_t>(count));
  }
  return text;
}

TEST(Subprocess, TalksThroughItsPipesAndReportsItsExit) {
  Result<Subprocess> child = Subprocess::start("/bin/sh", {"-c", "cat; exit 3"});
  ASSERT_TRUE(child) << child.error().message;
  ASSERT_EQ(::write(child->input(), "hello", 5), 5);
  child->close_input();
  EXPECT_EQ(read_all(child->output()), "hello");
  const std::optional<ExitStatus> status = child->wait(10s);
  ASSERT_TRUE(status);
  EXPECT_EQ(describe(*status), "exit status 3");
}

TEST(Subprocess, ASignalThatEndsItIsReported) {
  Result<Subprocess> child = Subprocess::start("/bin/cat", {});
  ASSERT_TRUE(child);
  EXPECT_FALSE(child->wait(0ms));
  child->send_signal(SIGKILL);
  const std::optional<ExitStatus> status = child->wait(10s);
  ASSERT_TRUE(status);
  EXPECT_EQ(describe(*status), "signal 9 (Killed)");
}

TEST(Subprocess, InheritsNothingButItsPipesAndStandardError) {
  std::array<int, 2> open_here{};
  ASSERT_EQ(::pipe(open_here.data()), 0);  // without O_CLOEXEC, as a library opens its sockets
  Result<Subprocess> child =
      Subprocess::start("/bin/sh", {"-c", "for fd; do test -e /proc/$$/fd/$fd && echo $fd; done", "sh", "2",
                                    std::to_string(open_here[0]), std::to_string(open_here[1])});
  ASSERT_TRUE(child);
  EXPECT_EQ(read_all(child->output()), "2\n");
  for (const int fd : open_here) ::close(fd);
}

TEST(Subprocess, AMissingProgramIsNamed) {
  const Result<Subprocess> child = Subprocess::start("/nowhere/program", {});
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().code, ErrorCode::not_found);
  EXPECT_THAT(child.error().message, testing::HasSubstr("/nowhere/program"));
}

TEST(Subprocess, ADestroyedOneLeavesNoProcessBehind) {
  { ASSERT_TRUE(Subprocess::start("/bin/cat", {})); }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

}  // namespace
}  // namespace darkroom
