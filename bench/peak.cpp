#include "bench/peak.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>

#if defined(DARKROOM_HAS_DNNL)
#include <unordered_map>

#include <oneapi/dnnl/dnnl.hpp>
#endif

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"

namespace darkroom::bench {
namespace {

using namespace darkroom::engine;

// A layer: `kernel` 1 is a linear layer of height·width rows.
struct LayerShape {
  const char* name;
  std::int64_t pictures, height, width, in, out;
  int kernel;

  double gflop() const {
    return 2e-9 * static_cast<double>(pictures * height * width) * static_cast<double>(in * out * kernel * kernel);
  }
};

// The UNet's with a batch of 2 at 512², and the VAE decoder's at 512².
constexpr std::array kShapes{
    LayerShape{"linear 2048x640x640", 1, 1, 2048, 640, 640, 1},
    LayerShape{"linear 2048x640x5120", 1, 1, 2048, 640, 5120, 1},
    LayerShape{"linear 2048x2560x640", 1, 1, 2048, 2560, 640, 1},
    LayerShape{"linear 512x1280x1280", 1, 1, 512, 1280, 1280, 1},
    LayerShape{"linear 512x1280x10240", 1, 1, 512, 1280, 10240, 1},
    LayerShape{"linear 512x5120x1280", 1, 1, 512, 5120, 1280, 1},
    LayerShape{"linear 8192x1280x1280", 1, 1, 8192, 1280, 1280, 1},
    LayerShape{"conv 3x3 320>320 64x64", 2, 64, 64, 320, 320, 3},
    LayerShape{"conv 3x3 640>640 32x32", 2, 32, 32, 640, 640, 3},
    LayerShape{"conv 3x3 1280>1280 16x16", 2, 16, 16, 1280, 1280, 3},
    LayerShape{"conv 3x3 2560>1280 16x16", 2, 16, 16, 2560, 1280, 3},
    LayerShape{"conv 3x3 512>512 128x128", 1, 128, 128, 512, 512, 3},
    LayerShape{"conv 3x3 256>256 256x256", 1, 256, 256, 256, 256, 3},
    LayerShape{"conv 3x3 128>128 512x512", 1, 512, 512, 128, 128, 3},
};

double our_seconds(Backend& backend, DType compute, const LayerShape& s, int runs) {
  const std::vector<float> weights = some_values(s.out * s.in * s.kernel * s.kernel, 0.05F);
  const bool conv = s.kernel > 1;
  HostTensor tensor{.name = "weight",
                    .dtype = DType::f32,
                    .shape = conv ? Shape{s.out, s.in, s.kernel, s.kernel} : Shape{s.out, s.in},
                    .data = reinterpret_cast<const std::byte*>(weights.data()),
                    .owner = nullptr};
  const auto packed =
      backend.pack({.use = conv ? WeightUse::conv2d : WeightUse::linear, .compute = compute, .parts = {{tensor, {}}}});
  const DType activations = compute == DType::f32 ? DType::f32 : DType::bf16;
  const Tensor x = from_host(backend, some_values(s.pictures * s.height * s.width * s.in, 1.0F),
                             {s.pictures, s.height, s.width, s.in}, activations);
  return best_seconds(runs, [&] {
    if (conv) {
      conv2d(x, *packed, {.padding = {1, 1, 1, 1}, .out = activations});
    } else {
      linear(x, *packed, {.out = activations});
    }
  });
}

#if defined(DARKROOM_HAS_DNNL)
double onednn_seconds(DType compute, const LayerShape& s, int runs) {
  using tag = dnnl::memory::format_tag;
  const auto type = compute == DType::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  std::unordered_map<int, dnnl::memory> arguments;
  // Values that differ from zero: multiplying those takes less power, and a processor that has more of it is faster.
  const auto add = [&](int role, const dnnl::memory::desc& description) {
    const dnnl::memory memory(description, engine);
    const std::size_t size = dnnl::memory::data_type_size(type);
    const std::vector<float> values = some_values(static_cast<std::int64_t>(description.get_size() / size), 1.0F);
    for (std::size_t i = 0; i < values.size(); ++i) {  // bfloat16 is the upper half of a float32
      std::memcpy(static_cast<char*>(memory.get_data_handle()) + i * size,
                  reinterpret_cast<const char*>(&values[i]) + 4 - size, size);
    }
    arguments.emplace(role, memory);
  };
  std::optional<dnnl::primitive> primitive;
  if (s.kernel == 1) {
    const std::int64_t rows = s.pictures * s.height * s.width;
    const dnnl::matmul::desc desc({{rows, s.in}, type, tag::ab}, {{s.in, s.out}, type, tag::any},
                                  {{rows, s.out}, type, tag::ab});
    const dnnl::matmul::primitive_desc chosen(desc, engine);
    add(DNNL_ARG_SRC, chosen.src_desc());
    add(DNNL_ARG_WEIGHTS, chosen.weights_desc());
    add(DNNL_ARG_DST, chosen.dst_desc());
    primitive = dnnl::matmul(chosen);
  } else {
    const dnnl::convolution_forward::desc desc(
        dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct,
        {{s.pictures, s.in, s.height, s.width}, type, tag::nhwc}, {{s.out, s.in, s.kernel, s.kernel}, type, tag::any},
        {{s.pictures, s.out, s.height, s.width}, type, tag::nhwc}, {1, 1}, {1, 1}, {1, 1});
    const dnnl::convolution_forward::primitive_desc chosen(desc, engine);
    add(DNNL_ARG_SRC, chosen.src_desc());
    add(DNNL_ARG_WEIGHTS, chosen.weights_desc());
    add(DNNL_ARG_DST, chosen.dst_desc());
    primitive = dnnl::convolution_forward(chosen);
  }
  return best_seconds(runs, [&] {
    primitive->execute(stream, arguments);
    stream.wait();
  });
}
#endif

}  // namespace

std::vector<float> some_values(std::int64_t count, float scale) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = scale * (static_cast<float>(state >> 8) * (1.0F / 8388608.0F) - 1.0F);
  }
  return values;
}

double seconds_of(const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double best_seconds(int runs, const std::function<void()>& work) {
  double best = 1e30;
  for (int i = 0; i <= runs; ++i) {
    const double seconds = seconds_of(work);
    if (i > 0) best = std::min(best, seconds);
  }
  return best;
}

Peak measure_peak(Backend& backend, DType compute, int threads, int runs) {
  Peak peak;
  peak.instructions = bare_product_rate(compute, threads, runs);
  for (const LayerShape& shape : kShapes) {
    ShapeResult result{.name = shape.name, .gflop = shape.gflop()};
    result.ours = result.gflop / our_seconds(backend, compute, shape, runs);
#if defined(DARKROOM_HAS_DNNL)
    try {
      result.onednn = result.gflop / onednn_seconds(compute, shape, runs);
    } catch (const dnnl::error& error) {
      // bfloat16 on a machine without instructions for it: there is nothing to compare with.
      if (error.status != dnnl_unimplemented) throw;
    }
#endif
    double& best = shape.kernel == 1 ? peak.gemm : peak.conv;
    best = std::max({best, result.ours, result.onednn});
    peak.shapes.push_back(std::move(result));
  }
  return peak;
}

}  // namespace darkroom::bench
