// Full-size networks, a pass of each: seconds, GFLOP/s and their share of the machine's own peak, measured in the same
// run; and what loading, a LoRA's switch, a ControlNet and a smaller compute type cost.
#include <algorithm>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include "bench/distance.h"
#include "bench/files.h"
#include "bench/lora_switch.h"
#include "bench/passes.h"
#include "bench/peak.h"
#include "engine/backend/cpu/cpu_backend.h"

namespace {

using namespace darkroom;
using namespace darkroom::engine;

const std::vector<std::string> kParts{"peak", "load",       "lora",     "text",    "unet",
                                      "vae",  "controlnet", "upscaler", "distance"};

struct Options {
  std::string checkpoint;
  std::string controlnet;
  std::string demo_model;
  std::string precision = "auto";
  std::string instruction_set;
  std::vector<int> sizes{512, 1024};
  int threads = 0;
  int runs = 3;
  std::vector<std::string> only;
  std::string json;

  bool wants(std::string_view part) const { return only.empty() || std::ranges::find(only, part) != only.end(); }
  bool wants_any(std::initializer_list<std::string_view> parts) const {
    return std::ranges::any_of(parts, [&](std::string_view part) { return wants(part); });
  }
};

double peak_memory_gib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1024.0 * 1024.0);
}

bench::Peak run_peak(Backend& backend, DType compute, int threads, int runs) {
  // int8 is compared with the peak of bfloat16.
  bench::Peak peak = bench::measure_peak(backend, compute == DType::f32 ? DType::f32 : DType::bf16, threads, runs);
  fmt::print("{:<34} {:>14} {:>14}\n", "layer", "ours GFLOP/s", "oneDNN GFLOP/s");
  for (const auto& shape : peak.shapes) fmt::print("{:<34} {:14.1f} {:14.1f}\n", shape.name, shape.ours, shape.onednn);
  fmt::print("peak: linear {:.1f}, convolution {:.1f}, bare products {:.1f} GFLOP/s; shares below are of {:.1f}\n\n",
             peak.gemm, peak.conv, peak.instructions, peak.highest());
  backend.trim();
  return peak;
}

void load(std::optional<bench::LoadedCheckpoint>& model, Backend& backend, const std::string& path, DType compute,
          bench::Report& report) {
  bench::forget_pages(path);
  const double read = bench::seconds_of([&] { bench::read_through(path); });
  bench::forget_pages(path);
  const double seconds = bench::seconds_of([&] { model.emplace(backend, path, compute); });
  const double laid_out = static_cast<double>(model->bytes()) / (1ULL << 30U);
  report.line("load {:.2f} s, reading the file alone {:.2f} s ({:.2f} times); laid out {:.2f} GiB", seconds, read,
              seconds / read, laid_out);
  report.json["load_seconds"] = seconds;
  report.json["read_seconds"] = read;
  report.json["laid_out_gib"] = laid_out;
}

void run_lora(bench::LoadedCheckpoint& model, const std::string& checkpoint, int threads, int runs,
              bench::Report& report) {
  constexpr int kRank = 16;
  const bench::LoraSwitch lora =
      bench::measure_lora_switch({AdapterTarget::unet, &model.unet_network, model.files.unet.weights},
                                 checkpoint + ".lora.safetensors", kRank, threads, runs);
  report.line(
      "LoRA of rank {} on every attention block, {:.0f} MiB, {} parameters: reading it {:.2f} s and laying out alone "
      "{:.2f} s, in the type of layers that wear one {:.2f} s; on {:.2f} s ({:.2f} times), another in its place "
      "{:.2f} s ({:.2f} times), off {:.2f} s",
      kRank, lora.file_mib, lora.parameters, lora.read_seconds, lora.lay_out_seconds, lora.worn_seconds,
      lora.put_on_seconds, lora.ratio(lora.put_on_seconds), lora.switch_seconds, lora.ratio(lora.switch_seconds),
      lora.take_off_seconds);
  report.json["lora"] = {{"on_seconds", lora.put_on_seconds},       {"switch_seconds", lora.switch_seconds},
                         {"off_seconds", lora.take_off_seconds},    {"read_seconds", lora.read_seconds},
                         {"lay_out_seconds", lora.lay_out_seconds}, {"worn_lay_out_seconds", lora.worn_seconds}};
}

int run(const Options& options) {
  const auto backend = make_cpu_backend({.threads = options.threads, .instruction_set = options.instruction_set});
  Precision precision = *value_of<Precision>(options.precision);
  if (precision == Precision::automatic) {
    precision = backend->fast_float() == DType::bf16 ? Precision::bfloat16 : Precision::float32;
  }
  const bench::PassOptions passes{.compute = precision == Precision::float32 ? DType::f32
                                             : precision == Precision::int8  ? DType::i8
                                                                             : DType::bf16,
                                  .sizes = options.sizes,
                                  .runs = options.runs};
  const int threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  bench::Peak peak;
  if (options.wants_any({"peak", "unet", "vae", "controlnet", "upscaler"})) {
    peak = run_peak(*backend, passes.compute, threads, options.runs);
  }
  bench::Report report(peak.highest());
  report.json = {{"precision", name_of(precision)},
                 {"peak_linear", peak.gemm},
                 {"peak_convolution", peak.conv},
                 {"peak_instructions", peak.instructions}};

  if (options.wants_any({"load", "lora", "text", "unet", "vae", "controlnet"})) {
    std::optional<bench::LoadedCheckpoint> model;
    load(model, *backend, options.checkpoint, passes.compute, report);
    if (options.wants("lora")) run_lora(*model, options.checkpoint, threads, options.runs, report);
    if (options.wants("text")) bench::run_text(*model, passes, report);
    if (options.wants("unet")) bench::run_unet(*model, passes, report);
    if (options.wants("vae")) bench::run_vae(*model, passes, report);
    if (options.wants("controlnet")) bench::run_controlnet(*model, options.controlnet, passes, report);
  }
  backend->trim();
  if (options.wants("upscaler")) bench::run_upscaler(*backend, passes, report);
  if (options.wants("distance")) bench::run_distance(options.demo_model, precision, report);
  report.line("peak memory {:.2f} GiB, of which mapped files count", peak_memory_gib());
  report.json["peak_memory_gib"] = peak_memory_gib();
  if (!options.json.empty()) std::ofstream(options.json) << report.json.dump(2) << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Passes of full-size SDXL networks, beside the machine's measured peak"};
  Options options;
  app.add_option("--checkpoint", options.checkpoint, "darkroom-make-model writes one from tests/reference/full-size");
  app.add_option("--controlnet", options.controlnet, "The same of a ControlNet");
  app.add_option("--demo-model", options.demo_model, "A small trained model, for the distance from float32");
  app.add_option("--precision", options.precision,
                 "auto is bfloat16 where the machine has fast products of it, else float32")
      ->check(CLI::IsMember({"auto", "bfloat16", "float32", "int8"}))
      ->capture_default_str();
  app.add_option("--instruction-set", options.instruction_set, "Empty: the best that this machine has");
  app.add_option("--only", options.only, "These parts alone: " + fmt::format("{}", fmt::join(kParts, ", ")))
      ->delimiter(',')
      ->check(CLI::IsMember(kParts));
  app.add_option("--sizes", options.sizes, "Sides of the pictures, pixels")->delimiter(',')->capture_default_str();
  app.add_option("--threads", options.threads, "0: one a core")->capture_default_str()->check(CLI::Range(0, 1024));
  app.add_option("--runs", options.runs, "Timed runs of each pass, the fastest counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--json", options.json, "Also write the figures to this file");
  CLI11_PARSE(app, argc, argv);
  return run(options);
} catch (const std::exception& error) {
  fmt::print(stderr, "darkroom-bench: {}\n", error.what());
  return 1;
}
