// This process's and this machine's memory, in bytes.
#pragma once

#include <cstdint>

namespace darkroom {

std::uint64_t resident_bytes();
std::uint64_t peak_resident_bytes();  // since the process started
std::uint64_t available_bytes();      // what the kernel could give without swapping

}  // namespace darkroom
