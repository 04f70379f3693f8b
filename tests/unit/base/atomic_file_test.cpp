#include "base/atomic_file.h"

#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

namespace darkroom {
namespace {

using testing::HasSubstr;

class AtomicFile : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(directory_); }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
  static std::string content(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) found.push_back(entry.path().filename());
    return found;
  }

  std::filesystem::path directory_ =
      std::filesystem::path(testing::TempDir()) /
      fmt::format("atomic-{}-{}", ::getpid(), testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(AtomicFile, HoldsTheBytesAndNothingLiesBesideIt) {
  ASSERT_TRUE(write_file_atomically(directory_ / "a", bytes("first")));
  ASSERT_TRUE(write_file_atomically(directory_ / "a", bytes("")));
  EXPECT_EQ(content(directory_ / "a"), "");
  ASSERT_TRUE(write_file_atomically(directory_ / "a", bytes(std::string_view("x\0y", 3))));
  EXPECT_EQ(content(directory_ / "a"), std::string("x\0y", 3));
  EXPECT_THAT(names(), testing::ElementsAre("a"));
}

TEST_F(AtomicFile, NamesADirectoryThatDoesNotExist) {
  const auto written = write_file_atomically(directory_ / "none" / "a", bytes("x"));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::not_found);
  EXPECT_THAT(written.error().message, HasSubstr("none/a: No such file or directory"));
}

TEST_F(AtomicFile, LeavesNothingWhereTheNameIsADirectorys) {
  std::filesystem::create_directories(directory_ / "a" / "b");
  const auto written = write_file_atomically(directory_ / "a", bytes("x"));
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, HasSubstr("Is a directory"));
  EXPECT_THAT(names(), testing::ElementsAre("a"));
}

// A file size limit stands for a full disk: a write comes back short, then fails.
TEST_F(AtomicFile, KeepsTheOldFileWhenTheNewOneDoesNotFit) {
  ASSERT_TRUE(write_file_atomically(directory_ / "a", bytes("old")));
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &limit);
  const auto written = write_file_atomically(directory_ / "a", bytes(std::string(10000, 'x')));
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, HasSubstr("File too large"));
  EXPECT_EQ(content(directory_ / "a"), "old");
  EXPECT_THAT(names(), testing::ElementsAre("a"));
}

TEST_F(AtomicFile, NothingIsLeftOfAProcessThatDiesWhileItWrites) {
  const Fd nameless{::open(directory_.c_str(), O_TMPFILE | O_WRONLY, 0600)};
  if (!nameless) GTEST_SKIP() << "this file system has no files without a name";
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    std::signal(SIGXFSZ, SIG_DFL);
    static_cast<void>(write_file_atomically(directory_ / "a", bytes(std::string(10000, 'x'))));
    ::_exit(0);  // not reached
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status)) << status;
  EXPECT_THAT(names(), testing::IsEmpty());
}

TEST_F(AtomicFile, StepsAroundANameLeftByAProcessThatDied) {
  ASSERT_TRUE(write_file_atomically(directory_ / "a", bytes("old")));  // only a name that is taken needs another first
  for (int i = 0; i < 50; ++i) {
    std::ofstream(directory_ / fmt::format(".darkroom-{}-{}.tmp", ::getpid(), i)) << "stale";
  }
  EXPECT_TRUE(write_file_atomically(directory_ / "a", bytes("x")));
  EXPECT_EQ(content(directory_ / "a"), "x");
}

TEST_F(AtomicFile, WorksForANameWithoutADirectory) {
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory_);
  EXPECT_TRUE(write_file_atomically("plain", bytes("x")));
  std::filesystem::current_path(before);
  EXPECT_EQ(content(directory_ / "plain"), "x");
}

}  // namespace
}  // namespace darkroom
