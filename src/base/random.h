// Numbers that nobody can predict, from the kernel.
#pragma once

#include <cstdint>

namespace darkroom {

// 64 random bits.
std::uint64_t random_u64();

}  // namespace darkroom
