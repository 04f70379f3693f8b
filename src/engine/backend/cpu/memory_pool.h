// Memory for activations. A pass asks for the same sizes in the same order as the one before, so what it frees is
// kept and given out again. Large blocks go back to the system when another size of them is asked for, all with trim().
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace darkroom::engine {

// Zeroed only by the system; 64-byte aligned, on huge pages where it is large. Throws Failure{out_of_memory}.
void* allocate_pages(std::size_t bytes);
void free_pages(void* data, std::size_t bytes);

class MemoryPool {
 public:
  struct Block {
    void* data = nullptr;
    std::size_t bytes = 0;  // at least what was asked for
  };

  MemoryPool() = default;
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;
  ~MemoryPool() { trim(); }

  Block take(std::size_t bytes);
  void give_back(Block block);
  // Returns unused blocks of at least this size to the system.
  void trim(std::size_t at_least = 0);

 private:
  std::mutex mutex_;
  std::multimap<std::size_t, void*> free_;
};

// The block that was given back last, for the next one: a layer that is laid out again gets the memory that it had,
// more of it or less, whose pages the system need not clear.
class SpareBlock {
 public:
  SpareBlock() = default;
  SpareBlock(const SpareBlock&) = delete;
  SpareBlock& operator=(const SpareBlock&) = delete;
  ~SpareBlock() { trim(); }

  void* take(std::size_t bytes);
  void give_back(void* data, std::size_t bytes);
  void trim() { give_back(nullptr, 0); }

 private:
  std::mutex mutex_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace darkroom::engine
