// The contract of BlobStore, held against every implementation, and tickets.
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "service/blobs/folder_blob_store.h"
#include "service/blobs/hash.h"
#include "service/blobs/ticket.h"
#include "tests/support/fast_directory.h"

namespace darkroom {
namespace {

namespace fs = std::filesystem;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using namespace std::chrono_literals;

struct Implementation {
  const char* name;
  std::function<std::unique_ptr<BlobStore>(const fs::path& directory)> open;
};

const Implementation kImplementations[] = {{"Folder", [](const fs::path& directory) -> std::unique_ptr<BlobStore> {
                                              Result<std::unique_ptr<FolderBlobStore>> store =
                                                  FolderBlobStore::open(directory / "blobs");
                                              return store ? std::move(*store) : nullptr;
                                            }}};

class DirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fast_directory("blobs");
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  void TearDown() override { fs::remove_all(directory_); }
  fs::path written(const std::string& bytes, const std::string& name = "file") const {
    std::ofstream(directory_ / name) << bytes;
    return directory_ / name;
  }

  fs::path directory_;
};

class BlobStoreTest : public DirectoryTest, public testing::WithParamInterface<Implementation> {
 protected:
  void SetUp() override {
    DirectoryTest::SetUp();
    store_ = GetParam().open(directory_);
    ASSERT_NE(store_, nullptr);
  }

  std::unique_ptr<BlobStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Stores, BlobStoreTest, testing::ValuesIn(kImplementations),
                         [](const auto& param) { return param.param.name; });

TEST_P(BlobStoreTest, WhatWasPutIsThereAlsoAfterARestart) {
  const Result<StoredBlob> blob = store_->put(written("hello"));
  ASSERT_TRUE(blob) << blob.error().message;
  EXPECT_EQ(blob->bytes, 5U);
  EXPECT_EQ(blob->sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  EXPECT_FALSE(fs::exists(directory_ / "file"));
  store_ = GetParam().open(directory_);
  EXPECT_EQ(*store_->get(blob->id, 0, 100), "hello");
}

TEST_P(BlobStoreTest, ARangeIsThatRange) {
  const StoredBlob blob = *store_->put(written("0123456789"));
  EXPECT_EQ(*store_->get(blob.id, 3, 4), "3456");
  EXPECT_EQ(*store_->get(blob.id, 8, 100), "89");
  EXPECT_EQ(*store_->get(blob.id, 10, 1), "");
  EXPECT_EQ(*store_->get(blob.id, 1ULL << 60U, 1), "");
  EXPECT_EQ(*store_->get(blob.id, 0, 0), "");
}

TEST_P(BlobStoreTest, EachGetsANameOfItsOwn) {
  const StoredBlob one = *store_->put(written("same"));
  const StoredBlob two = *store_->put(written("same"));
  EXPECT_NE(one.id, two.id);
  EXPECT_EQ(one.id.size(), 32U);
  EXPECT_THAT(*store_->list(), UnorderedElementsAre(one.id, two.id));
}

TEST_P(BlobStoreTest, WhatWasRemovedIsGoneAndRemovingAgainIsFine) {
  const StoredBlob blob = *store_->put(written("x"));
  EXPECT_TRUE(store_->remove(blob.id));
  EXPECT_TRUE(store_->remove(blob.id));
  EXPECT_EQ(store_->get(blob.id, 0, 1).error().code, ErrorCode::not_found);
  EXPECT_THAT(*store_->list(), IsEmpty());
}

TEST_P(BlobStoreTest, NoNameLeadsOutOfTheStore) {
  for (const char* id : {"", "../file", "..", "0123456789abcdef0123456789abcdeg", "0123456789ABCDEF0123456789ABCDEF"}) {
    EXPECT_EQ(store_->get(id, 0, 1).error().code, ErrorCode::not_found) << id;
  }
}

TEST_P(BlobStoreTest, OnlyAFileIsTaken) {
  fs::create_symlink("/etc/passwd", directory_ / "link");
  fs::create_directory(directory_ / "folder");
  EXPECT_FALSE(store_->put(directory_ / "link"));
  EXPECT_FALSE(store_->put(directory_ / "folder"));
  EXPECT_EQ(store_->put(directory_ / "nothing").error().code, ErrorCode::not_found);
  EXPECT_THAT(*store_->list(), IsEmpty());
}

class TicketTest : public DirectoryTest {
 protected:
  TicketOffice office() const { return *TicketOffice::open(directory_ / "secret"); }
  TicketOffice::Time now_ = TicketOffice::Time(1'700'000'000s);
};

TEST_F(TicketTest, ATicketOpensItsThingUntilItsTimeAlsoAfterARestart) {
  const std::string ticket = office().issue("job/0", now_ + 60s);
  EXPECT_TRUE(office().accepts("job/0", ticket, now_));
  EXPECT_TRUE(office().accepts("job/0", ticket, now_ + 59s));
  EXPECT_FALSE(office().accepts("job/0", ticket, now_ + 60s));
  EXPECT_FALSE(office().accepts("job/1", ticket, now_));
}

TEST_F(TicketTest, NobodyElseMakesOne) {
  const std::string ticket = office().issue("job/0", now_ + 60s);
  std::string later = ticket;
  later[0] = '9';
  std::string other = ticket;
  other.back() = other.back() == '0' ? '1' : '0';
  for (const std::string& forged : {later, other, ticket + "0", ticket.substr(0, ticket.size() - 2), std::string(),
                                    std::string("."), std::string("9999999999."), std::string("x.y"), " " + ticket}) {
    EXPECT_FALSE(office().accepts("job/0", forged, now_)) << forged;
  }
  fs::remove(directory_ / "secret");
  EXPECT_FALSE(office().accepts("job/0", ticket, now_));
}

TEST_F(TicketTest, TheSecretIsItsOwnersAlone) {
  office();
  EXPECT_EQ(fs::status(directory_ / "secret").permissions(), fs::perms::owner_read | fs::perms::owner_write);
  written("short", "secret");
  EXPECT_EQ(TicketOffice::open(directory_ / "secret").error().code, ErrorCode::corrupt_data);
}

// RFC 4231, test case 2; FIPS 180's empty message.
TEST(Hash, IsTheStandards) {
  EXPECT_EQ(to_hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(*from_hex(to_hex("\x01\xfez")), "\x01\xfez");
  EXPECT_FALSE(from_hex("0"));
  EXPECT_FALSE(from_hex("0G"));
}

}  // namespace
}  // namespace darkroom
