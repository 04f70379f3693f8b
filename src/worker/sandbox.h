// What a worker gives up once it has started: the network, other programs, other processes, the kernel's rarer doors.
// Pictures and weights are strangers' files; whoever breaks a parser finds nothing to go on with.
#pragma once

#include "base/error.h"

namespace darkroom {

// For all threads, for good. Error unsupported where the kernel has no seccomp.
Result<void> enter_sandbox();

}  // namespace darkroom
