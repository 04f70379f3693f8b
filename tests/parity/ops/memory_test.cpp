// Where laid out weights get their memory.
#include <cstring>

#include "engine/backend/cpu/memory_pool.h"
#include "tests/parity/ops/parity.h"

namespace darkroom::engine {
namespace {

constexpr std::size_t kMib = 1U << 20U;

// Every byte can be written, which is all that a block promises.
void fill(void* data, std::size_t bytes, int value) { std::memset(data, value, bytes); }

TEST(SpareBlock, IsTheNextOnesMemory) {
  SpareBlock spare;
  void* first = spare.take(5 * kMib);
  fill(first, 5 * kMib, 1);
  spare.give_back(first, 5 * kMib);
  void* again = spare.take(5 * kMib);
  EXPECT_EQ(again, first);
  EXPECT_EQ(static_cast<const char*>(again)[5 * kMib - 1], 1);  // no page of it was cleared
  spare.give_back(again, 5 * kMib);
}

TEST(SpareBlock, GrowsAndShrinksWithItsPages) {
  SpareBlock spare;
  void* block = spare.take(3 * kMib);
  fill(block, 3 * kMib, 1);
  spare.give_back(block, 3 * kMib);
  block = spare.take(7 * kMib);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0U);
  EXPECT_EQ(static_cast<const char*>(block)[3 * kMib - 1], 1);
  fill(block, 7 * kMib, 2);
  spare.give_back(block, 7 * kMib);
  block = spare.take(1000);
  EXPECT_EQ(static_cast<const char*>(block)[999], 2);
  fill(block, 1000, 3);
  // Two at once are two; the one that comes back last is kept.
  void* other = spare.take(2 * kMib);
  fill(other, 2 * kMib, 4);
  EXPECT_EQ(static_cast<const char*>(block)[999], 3);
  spare.give_back(block, 1000);
  spare.give_back(other, 2 * kMib);
  spare.trim();
}

TEST(SpareBlock, MoreThanThereIsLeavesItUsable) {
  SpareBlock spare;
  spare.give_back(spare.take(kMib), kMib);
  EXPECT_THROW(spare.take(std::size_t{1} << 60U), Failure);
  void* block = spare.take(kMib);
  fill(block, kMib, 1);
  spare.give_back(block, kMib);
}

}  // namespace
}  // namespace darkroom::engine
