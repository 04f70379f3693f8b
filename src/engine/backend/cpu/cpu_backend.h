// The fast backend for processors: kernels compiled for several instruction sets, chosen at start.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/backend.h"

namespace darkroom::engine {

struct CpuOptions {
  int threads = 0;              // 0: one per core that this process may use
  std::string instruction_set;  // "": the best that this machine has; else one of available_instruction_sets()
};

// Throws Failure{invalid_argument} for an instruction set that the machine or the build lacks.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options = {});

// GFLOP/s of `compute` products (f32 or bf16) between registers on so many threads, by this machine's best instruction
// set: the best of `runs` runs of a fraction of a second. 0 without an instruction for them.
double bare_product_rate(DType compute, int threads, int runs);

// Those compiled in that this machine can run, the best first: "amx", "avx512bf16", "avx512", "avx2", "baseline".
std::vector<std::string> available_instruction_sets();

}  // namespace darkroom::engine
