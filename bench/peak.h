// The machine's own limits, measured in the run that they are compared with.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/backend/backend.h"

namespace darkroom::bench {

double seconds_of(const std::function<void()>& work);
// Seconds of the fastest of `runs` after one that is not counted.
double best_seconds(int runs, const std::function<void()>& work);

struct ShapeResult {
  std::string name;
  double gflop = 0;
  double ours = 0;    // GFLOP/s
  double onednn = 0;  // GFLOP/s; 0: not installed, or not for this machine
};

struct Peak {
  std::vector<ShapeResult> shapes;  // linear layers and convolutions of SDXL at 512² and the VAE
  double instructions = 0;          // GFLOP/s of products between registers; 0: not known for this machine
  // The best of any implementation over all shapes of its kind.
  double gemm = 0;
  double conv = 0;
  double highest() const { return gemm > conv ? gemm : conv; }
};

// The same values each time, between −scale and scale.
std::vector<float> some_values(std::int64_t count, float scale);

Peak measure_peak(engine::Backend& backend, engine::DType compute, int threads, int runs);

}  // namespace darkroom::bench
