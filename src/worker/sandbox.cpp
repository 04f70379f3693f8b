#include "worker/sandbox.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <memory>
#include <system_error>

#include <seccomp.h>
#include <sys/resource.h>

namespace darkroom {
namespace {

constexpr rlim_t kMaxFile = 4'000'000'000;  // bytes of a file that is written: no picture comes near

// Refused with EPERM. What is left is what computing, files and threads need; io_uring could do the rest unseen.
constexpr std::array kRefused = {
    "execve",
    "execveat",
    "fork",
    "vfork",
    "socket",
    "socketpair",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kill",
    "pidfd_open",
    "pidfd_send_signal",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "unshare",
    "setns",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "keyctl",
    "add_key",
    "request_key",
    "open_by_handle_at",
    "reboot",
    "swapon",
    "swapoff",
    "personality",
};

// Never more than we were given.
Result<void> limit(__rlimit_resource resource, rlim_t value) {
  rlimit limits{};
  ::getrlimit(resource, &limits);
  limits.rlim_max = std::min(limits.rlim_max, value);
  limits.rlim_cur = std::min(limits.rlim_cur, limits.rlim_max);
  if (::setrlimit(resource, &limits) == 0) return {};
  return fail(ErrorCode::internal, "cannot set a resource limit: {}", std::generic_category().message(errno));
}

}  // namespace

Result<void> enter_sandbox() {
  std::signal(SIGXFSZ, SIG_IGN);  // a file past its limit is a failed write, not a death
  if (Result<void> done = limit(RLIMIT_FSIZE, kMaxFile); !done) return done;
  if (Result<void> done = limit(RLIMIT_CORE, 0); !done) return done;  // a core holds prompts and pictures

  const std::unique_ptr<void, decltype(&::seccomp_release)> filter(::seccomp_init(SCMP_ACT_ALLOW), &::seccomp_release);
  if (filter == nullptr) return fail(ErrorCode::unsupported, "this kernel has no seccomp");
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  for (const char* name : kRefused) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR) continue;  // newer than this library
    ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), number, 0);
  }
  if (const int error = ::seccomp_load(filter.get()); error != 0) {
    return fail(ErrorCode::unsupported, "seccomp refused its filter: {}", std::generic_category().message(-error));
  }
  return {};
}

}  // namespace darkroom
