#include "engine/backend/cpu/memory_pool.h"

#include <algorithm>
#include <utility>

#include <sys/mman.h>

#include "base/error.h"

namespace darkroom::engine {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = 2U << 20U;
constexpr std::size_t kLarge = std::size_t{128} << 20U;

std::size_t rounded(std::size_t bytes) {
  const std::size_t unit = bytes >= kHugePage ? kHugePage / 8 : kPage;
  return (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
}

}  // namespace

void* allocate_pages(std::size_t bytes) {
  const std::size_t length = rounded(bytes);
  // Room to begin on a huge page; what lies before and behind is given back.
  const std::size_t slack = length >= kHugePage ? kHugePage : 0;
  void* mapped = ::mmap(nullptr, length + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw_failure(ErrorCode::out_of_memory, "cannot allocate {} bytes", bytes);
  if (slack == 0) return mapped;
  auto* begin = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::size_t before = (kHugePage - address % kHugePage) % kHugePage;
  if (before > 0) ::munmap(begin, before);
  if (slack > before) ::munmap(begin + before + length, slack - before);
  ::madvise(begin + before, length, MADV_HUGEPAGE);
  return begin + before;
}

void free_pages(void* data, std::size_t bytes) { ::munmap(data, rounded(bytes)); }

MemoryPool::Block MemoryPool::take(std::size_t bytes) {
  const std::size_t wanted = rounded(bytes);
  {
    const std::lock_guard lock(mutex_);
    // The smallest that is large enough, unless it would waste more than an eighth.
    const auto found = free_.lower_bound(wanted);
    if (found != free_.end() && found->first <= wanted + wanted / 8) {
      const Block block{found->second, found->first};
      free_.erase(found);
      return block;
    }
  }
  // A decoder's levels double in size: what one level used must not lie beside what the next one takes.
  if (wanted >= kLarge) trim(kLarge);
  try {
    return {allocate_pages(wanted), wanted};
  } catch (const Failure&) {
    trim();
    return {allocate_pages(wanted), wanted};
  }
}

void MemoryPool::give_back(Block block) {
  const std::lock_guard lock(mutex_);
  // In front of its equals: the block that was used last is taken next, while caches still hold it.
  free_.emplace_hint(free_.lower_bound(block.bytes), block.bytes, block.data);
}

void MemoryPool::trim(std::size_t at_least) {
  std::multimap<std::size_t, void*> unused;
  {
    const std::lock_guard lock(mutex_);
    const auto first = free_.lower_bound(at_least);
    unused.insert(first, free_.end());
    free_.erase(first, free_.end());
  }
  for (const auto& [bytes, data] : unused) free_pages(data, bytes);
}

void* SpareBlock::take(std::size_t bytes) {
  void* spare = nullptr;
  std::size_t spare_bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    std::swap(spare, data_);
    std::swap(spare_bytes, bytes_);
  }
  if (spare == nullptr) return allocate_pages(bytes);
  if (rounded(spare_bytes) == rounded(bytes)) return spare;
  // Its pages move to where the new block begins.
  void* wanted = nullptr;
  try {
    wanted = allocate_pages(bytes);
  } catch (const Failure&) {
    free_pages(spare, spare_bytes);
    throw;
  }
  if (::mremap(spare, rounded(spare_bytes), rounded(bytes), MREMAP_MAYMOVE | MREMAP_FIXED, wanted) == MAP_FAILED) {
    free_pages(spare, spare_bytes);
    // The system may already have taken away what was at `wanted`, so that is nobody's to use or to free.
    throw_failure(ErrorCode::out_of_memory, "cannot allocate {} bytes", bytes);
  }
  return wanted;
}

void SpareBlock::give_back(void* data, std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    std::swap(data, data_);
    std::swap(bytes, bytes_);
  }
  if (data != nullptr) free_pages(data, bytes);
}

}  // namespace darkroom::engine
