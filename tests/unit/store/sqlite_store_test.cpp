// What is SQLite's own: the lock, versions, the planner.
#include "service/store/sqlite_store.h"

#include <filesystem>
#include <fstream>

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/store/sqlite_statements.h"
#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class SqliteStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("sqlite");
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }
  fs::path file() const { return directory_ / "jobs.db"; }

  // How SQLite would run a statement, one line a step.
  std::string plan(const std::string& sql) const {
    SQLite::Database database(file().string(), SQLite::OPEN_READWRITE);
    SQLite::Statement statement(database, "EXPLAIN QUERY PLAN " + sql);
    std::string lines;
    while (statement.executeStep()) lines += statement.getColumn(3).getString() + "\n";
    return lines;
  }

  fs::path directory_;
};

TEST_F(SqliteStoreTest, OneServiceHasTheFile) {
  const auto first = open_sqlite_store(file());
  ASSERT_TRUE(first) << first.error().message;
  const auto second = open_sqlite_store(file());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::conflict);
  EXPECT_THAT(second.error().message, HasSubstr("jobs.db is in use by another service"));
}

TEST_F(SqliteStoreTest, TheLockGoesWithTheStore) {
  ASSERT_TRUE(open_sqlite_store(file()));
  EXPECT_TRUE(open_sqlite_store(file()));
}

TEST_F(SqliteStoreTest, ANewerVersionsFileIsLeftAlone) {
  ASSERT_TRUE(open_sqlite_store(file()));
  { SQLite::Database(file().string(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99"); }
  const auto store = open_sqlite_store(file());
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::corrupt_data);
  EXPECT_THAT(store.error().message, HasSubstr("schema 99"));
}

TEST_F(SqliteStoreTest, WhatIsNoDatabaseIsLeftAlone) {
  std::ofstream(file()) << std::string(10'000, 'x');
  const auto store = open_sqlite_store(file());
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::corrupt_data);
  EXPECT_EQ(fs::file_size(file()), 10'000U);
}

TEST_F(SqliteStoreTest, APathThatCannotBeIsRefused) {
  EXPECT_EQ(open_sqlite_store(directory_ / "no" / "jobs.db").error().code, ErrorCode::invalid_argument);
}

TEST_F(SqliteStoreTest, CommitsReachTheDisk) {
  ASSERT_TRUE(open_sqlite_store(file()));
  SQLite::Database database(file().string(), SQLite::OPEN_READONLY);
  EXPECT_EQ(database.execAndGet("PRAGMA journal_mode").getString(), "wal");
}

TEST_F(SqliteStoreTest, NothingThatRunsForEveryClaimScans) {
  ASSERT_TRUE(open_sqlite_store(file()));
  EXPECT_THAT(plan(kClaimSql), testing::Not(HasSubstr("SCAN jobs")));
  EXPECT_THAT(plan(kClaimSql), HasSubstr("USING INDEX jobs_by_model (model=?)"));
  EXPECT_THAT(plan(kClaimSql), testing::Not(HasSubstr("TEMP B-TREE")));
  EXPECT_THAT(plan(kClaimSql), HasSubstr("USING INDEX jobs_by_class (batch_class=?)"));
  EXPECT_THAT(plan(kPositionSql), testing::Not(HasSubstr("SCAN")));
  EXPECT_THAT(plan(kPositionSql), HasSubstr("USING COVERING INDEX jobs_by_tag ((band,start_tag,id)<(?,?,?))"));
  // One row a model, and each looks through the index.
  EXPECT_THAT(plan(kQueuesSql), testing::Not(HasSubstr("SCAN j")));
  EXPECT_THAT(plan(kQueuesSql), testing::Not(HasSubstr("TEMP B-TREE")));
  EXPECT_THAT(plan(kVirtualNowSql), testing::Not(HasSubstr("SCAN jobs\n")));
  EXPECT_THAT(plan(kVirtualNowSql), testing::Not(HasSubstr("TEMP B-TREE")));
}

}  // namespace
}  // namespace darkroom
