// One operation at a time at SDXL's shapes: milliseconds, GFLOP/s and share of what bare product instructions reach, or
// GB/s where memory is the limit. Shapes are the UNet's with a batch of 2 at 512² and the VAE decoder's at 512².
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/peak.h"
#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"

namespace {

using namespace darkroom;
using namespace darkroom::engine;
using nlohmann::json;

// How the bench was asked to run; every operation is measured the same way.
struct Settings {
  DType compute = DType::bf16;
  DType weights = DType::f16;  // of the file, as checkpoints are shared
  int threads = 0;
  int runs = 5;
  std::string filter;
};

class OpsBench {
 public:
  OpsBench(Backend& backend, const Settings& settings) : backend_(backend), settings_(settings) {
    peak_ = bare_product_rate(product_type(), settings.threads, settings.runs);
    std::printf("bare products: %.1f GFLOP/s\n\n%-44s %10s %10s %8s %8s\n", peak_, "operation", "ms", "GFLOP/s",
                "of peak", "GB/s");
  }

  void linear(std::int64_t rows, std::int64_t in, std::int64_t out, WeightUse use = WeightUse::linear) {
    const bool geglu = use == WeightUse::linear_geglu;
    const std::int64_t columns = geglu ? 2 * out : out;
    const std::string name = fmt::format("{} {}x{}x{}", geglu ? "geglu" : "linear", rows, in, columns);
    if (!wanted(name)) return;
    const auto weight = pack({columns, in}, use);
    const Tensor x = tensor({rows, in});
    const Tensor bias = vector(columns);
    report(name, 2e-9 * static_cast<double>(rows * in) * static_cast<double>(columns), 0,
           [&] { engine::linear(x, *weight, {.bias = &bias, .out = activation_type()}); });
  }

  void conv(std::int64_t pictures, std::int64_t side, std::int64_t in, std::int64_t out, int kernel,
            WeightUse use = WeightUse::conv2d, int stride = 1) {
    const bool doubled = use == WeightUse::conv2d_upsample2x;
    const std::string name = fmt::format("conv{} {}x{} {}x{}x{} {}>{}{}", doubled ? " doubled" : "", kernel, kernel,
                                         pictures, side, side, in, out, stride == 2 ? " /2" : "");
    if (!wanted(name)) return;
    const auto weight = pack({out, in, kernel, kernel}, use);
    const Tensor x = tensor({pictures, side, side, in});
    const Tensor bias = vector(out);
    const int pad = kernel / 2;
    const std::int64_t side_out = doubled ? 2 * side : side / stride;
    const double gflop = 2e-9 * static_cast<double>(pictures * side_out * side_out) * static_cast<double>(in * out) *
                         (doubled ? 4 : kernel * kernel);  // what is computed: doubling needs 2×2 of the small picture
    report(name, gflop, 0, [&] {
      conv2d(x, *weight, {.bias = &bias, .stride = stride, .padding = {pad, pad, pad, pad}, .out = activation_type()});
    });
  }

  void attention(std::int64_t pictures, std::int64_t queries, std::int64_t keys, int heads, std::int64_t width) {
    const std::string name = fmt::format("attention {}x{}x{} {} heads of {}", pictures, queries, keys, heads, width);
    if (!wanted(name)) return;
    const Tensor q = tensor({pictures, queries, heads * width});
    const Tensor k = tensor({pictures, keys, heads * width});
    const Tensor v = tensor({pictures, keys, heads * width});
    const double gflop = 4e-9 * static_cast<double>(pictures * heads * queries) * static_cast<double>(keys * width);
    report(name, gflop, 0,
           [&] { engine::attention(q, k, v, {.heads = heads, .scale = 0.125F, .out = activation_type()}); });
  }

  void group_norm(std::int64_t pictures, std::int64_t side, std::int64_t channels, std::int64_t channels2,
                  DType input) {
    const std::string name =
        fmt::format("group_norm {}x{}x{}x{}+{} {}", pictures, side, side, channels, channels2, to_string(input));
    if (!wanted(name)) return;
    const Tensor x = tensor({pictures, side, side, channels}, input);
    const Tensor x2 = channels2 > 0 ? tensor({pictures, side, side, channels2}, input) : Tensor{};
    const Tensor gamma = vector(channels + channels2);
    const auto elements = static_cast<double>(pictures * side * side * (channels + channels2));
    const GroupNormOptions options{
        .x2 = channels2 > 0 ? &x2 : nullptr, .activation = Activation::silu, .out = activation_type()};
    report(name, 0, 1e-9 * elements * static_cast<double>(2 * size_of(input) + size_of(activation_type())),
           [&] { engine::group_norm(x, gamma, gamma, options); });
  }

  void layer_norm(std::int64_t rows, std::int64_t channels) {
    const std::string name = fmt::format("layer_norm {}x{}", rows, channels);
    if (!wanted(name)) return;
    const Tensor x = tensor({rows, channels}, DType::f32);
    const Tensor gamma = vector(channels);
    report(name, 0, 1e-9 * static_cast<double>(rows * channels) * static_cast<double>(4 + size_of(activation_type())),
           [&] { engine::layer_norm(x, gamma, gamma, 1e-5F, activation_type()); });
  }

  // Laying out a weight of a float16 file, and what a LoRA of this rank adds to it; GB/s of the file.
  void pack(std::int64_t out, std::int64_t in, int kernel, std::int64_t rank) {
    std::string name = fmt::format("pack {}x{}x{}x{} float16", out, in, kernel, kernel);
    if (rank > 0) name += fmt::format(" rank {}", rank);
    if (!wanted(name)) return;
    const Shape shape{out, in, kernel, kernel};
    const std::vector<std::uint16_t> halves(static_cast<std::size_t>(shape.elements()), 0x3555);
    const auto tensor = [&](const Shape& of) {
      return HostTensor{.name = "weight",
                        .dtype = DType::f16,
                        .shape = of,
                        .data = reinterpret_cast<const std::byte*>(halves.data()),
                        .owner = nullptr};
    };
    TensorSum sum{tensor(shape), {}};
    if (rank > 0) sum.products.push_back({.left = tensor({out, rank}), .right = tensor({rank, in, kernel, kernel})});
    const PackRequest request{.use = WeightUse::conv2d, .compute = settings_.compute, .parts = {sum}};
    report(name, 0, 2e-9 * static_cast<double>(shape.elements()), [&] { backend_.pack(request); });
  }

  void add(std::int64_t rows, std::int64_t channels) {
    const std::string name = fmt::format("add {}x{}", rows, channels);
    if (!wanted(name)) return;
    const Tensor x = tensor({rows, channels}, DType::f32);
    report(name, 0, 12e-9 * static_cast<double>(rows * channels), [&] { add_into(x, 1.0F, x, 1.0F, x); });
  }

  json summary() const {
    return {{"compute", to_string(settings_.compute)},
            {"threads", settings_.threads},
            {"peak_instructions", peak_},
            {"operations", rows_}};
  }

 private:
  // int8 has no bare loop of its own: its share is of bfloat16's.
  DType product_type() const { return settings_.compute == DType::f32 ? DType::f32 : DType::bf16; }
  DType activation_type() const { return product_type(); }
  bool wanted(const std::string& name) const { return name.find(settings_.filter) != std::string::npos; }

  Tensor tensor(const Shape& shape, DType type) {
    return from_host(backend_, bench::some_values(shape.elements(), 1.0F), shape, type);
  }
  Tensor tensor(const Shape& shape) { return tensor(shape, activation_type()); }
  Tensor vector(std::int64_t length) { return tensor({length}, DType::f32); }

  std::shared_ptr<const PackedWeight> pack(const Shape& shape, WeightUse use) {
    const std::vector<float> values = bench::some_values(shape.elements(), 0.05F);
    std::vector<std::uint16_t> halves;
    const auto narrow = settings_.weights == DType::f16 ? float_to_f16 : float_to_bf16;
    if (settings_.weights != DType::f32) std::ranges::transform(values, std::back_inserter(halves), narrow);
    const void* data = halves.empty() ? static_cast<const void*>(values.data()) : halves.data();
    return backend_.pack({.use = use,
                          .compute = settings_.compute,
                          .parts = {{{.name = "weight",
                                      .dtype = settings_.weights,
                                      .shape = shape,
                                      .data = static_cast<const std::byte*>(data),
                                      .owner = nullptr},
                                     {}}}});
  }

  void report(const std::string& name, double gflop, double gbyte, const std::function<void()>& work) {
    const double seconds = bench::best_seconds(settings_.runs, work);
    std::printf("%-44s %10.3f ", name.c_str(), 1e3 * seconds);
    if (gflop > 0) {
      std::printf("%10.1f %7.1f%%\n", gflop / seconds, 100 * gflop / seconds / peak_);
    } else {
      std::printf("%10s %8s %8.1f\n", "", "", gbyte / seconds);
    }
    static_cast<void>(std::fflush(stdout));
    rows_.push_back({{"name", name},
                     {"milliseconds", 1e3 * seconds},
                     {"gflops_per_second", gflop / seconds},
                     {"gbytes_per_second", gbyte / seconds}});
  }

  Backend& backend_;
  const Settings settings_;
  double peak_ = 0;
  json rows_ = json::array();
};

void run_all(OpsBench& bench) {
  for (const std::int64_t rows : {2048, 8192}) {
    for (const auto& [in, out] :
         {std::pair{640, 640}, {640, 5120}, {2560, 640}, {1280, 1280}, {1280, 10240}, {5120, 1280}}) {
      bench.linear(rows, in, out);
    }
  }
  for (const auto& [in, out] : {std::pair{1280, 1280}, {1280, 3840}, {5120, 1280}}) bench.linear(512, in, out);
  for (const int out : {1280, 2560}) bench.linear(154, 2048, out);
  bench.linear(2048, 640, 2560, WeightUse::linear_geglu);
  bench.linear(512, 1280, 5120, WeightUse::linear_geglu);

  bench.conv(2, 64, 4, 320, 3);
  bench.conv(2, 64, 320, 320, 3);
  bench.conv(2, 64, 960, 320, 3);
  bench.conv(2, 64, 320, 320, 3, WeightUse::conv2d, 2);
  bench.conv(2, 32, 640, 640, 3);
  bench.conv(2, 32, 1920, 640, 3);
  bench.conv(2, 32, 640, 640, 3, WeightUse::conv2d, 2);
  bench.conv(2, 16, 1280, 1280, 3);
  bench.conv(2, 16, 2560, 1280, 3);
  bench.conv(2, 16, 1280, 1280, 3, WeightUse::conv2d_upsample2x);
  bench.conv(2, 64, 960, 320, 1);
  bench.conv(2, 64, 320, 4, 3);
  bench.conv(1, 64, 512, 512, 3);
  bench.conv(1, 64, 512, 512, 3, WeightUse::conv2d_upsample2x);
  bench.conv(1, 256, 256, 256, 3);
  bench.conv(1, 512, 128, 128, 3);
  bench.conv(1, 512, 128, 3, 3);

  bench.attention(2, 1024, 1024, 10, 64);
  bench.attention(2, 256, 256, 20, 64);
  bench.attention(2, 4096, 4096, 10, 64);
  bench.attention(2, 1024, 1024, 20, 64);
  bench.attention(2, 1024, 77, 10, 64);
  bench.attention(2, 256, 77, 20, 64);
  bench.attention(1, 4096, 4096, 1, 512);

  bench.group_norm(2, 64, 320, 0, DType::f32);
  bench.group_norm(2, 64, 320, 320, DType::f32);
  bench.group_norm(2, 32, 640, 0, DType::f32);
  bench.group_norm(2, 16, 1280, 1280, DType::f32);
  bench.group_norm(1, 512, 128, 0, DType::bf16);
  bench.group_norm(1, 512, 256, 0, DType::f32);
  bench.layer_norm(2048, 640);
  bench.layer_norm(512, 1280);
  bench.add(8192, 320);
  for (const std::int64_t rank : {0, 16}) {
    bench.pack(10240, 1280, 1, rank);
    bench.pack(1280, 1280, 3, rank);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"SDXL's operations one at a time, beside the machine's measured peak"};
  Settings settings;
  std::string precision = "bfloat16";
  std::string weights = "float16";
  std::string instruction_set;
  std::string json_path;
  app.add_option("--precision", precision, "Type of products: bfloat16, float32 or int8")
      ->check(CLI::IsMember({"bfloat16", "float32", "int8"}))
      ->capture_default_str();
  app.add_option("--weights", weights, "Type that the weights' file has: float16, bfloat16 or float32")
      ->check(CLI::IsMember({"float16", "bfloat16", "float32"}))
      ->capture_default_str();
  app.add_option("--threads", settings.threads, "0: one a core")->capture_default_str()->check(CLI::Range(0, 1024));
  app.add_option("--runs", settings.runs, "Timed runs of each operation, the fastest counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--filter", settings.filter, "Only operations whose name contains this");
  app.add_option("--instruction-set", instruction_set, "Empty: the best that this machine has");
  app.add_option("--json", json_path, "Also write the figures to this file");
  CLI11_PARSE(app, argc, argv);

  settings.compute = precision == "float32" ? DType::f32 : precision == "int8" ? DType::i8 : DType::bf16;
  settings.weights = weights == "float32" ? DType::f32 : weights == "float16" ? DType::f16 : DType::bf16;
  if (settings.threads == 0) settings.threads = static_cast<int>(std::thread::hardware_concurrency());
  const auto backend = make_cpu_backend({.threads = settings.threads, .instruction_set = instruction_set});
  OpsBench bench(*backend, settings);
  run_all(bench);
  if (!json_path.empty()) std::ofstream(json_path) << bench.summary().dump(2) << '\n';
  return 0;
} catch (const std::exception& error) {
  static_cast<void>(std::fprintf(stderr, "darkroom-bench-ops: %s\n", error.what()));
  return 1;
}
