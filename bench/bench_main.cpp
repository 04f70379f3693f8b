// The full-size networks, a pass of each: seconds, GFLOP/s and their share of the machine's own peak, measured in the
// same run. Arithmetic is counted without tricks: an upsampling convolution counts as the 3×3 convolution it replaces.
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "bench/files.h"
#include "bench/lora_switch.h"
#include "bench/peak.h"
#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/ops.h"
#include "engine/models/clip_text.h"
#include "engine/models/unet.h"
#include "engine/models/upscaler.h"
#include "engine/models/vae.h"
#include "engine/weights/checkpoint.h"

namespace {

using namespace darkroom;
using namespace darkroom::engine;
using nlohmann::json;

double peak_memory_gib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1024.0 * 1024.0);
}

double seconds_once(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Tensor some_tensor(Backend& backend, const Shape& shape) {
  std::vector<float> values(static_cast<std::size_t>(shape.elements()));
  std::uint32_t state = 7;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * (1.0F / 8388608.0F) - 1.0F;
  }
  return from_host(backend, values, shape);
}

// Prints a line and keeps it for --json.
class Report {
 public:
  explicit Report(double peak) : peak_(peak) {}
  void pass(const std::string& name, double seconds, double gflop) {
    const double rate = gflop / seconds;
    std::printf("%-34s %9.3f s %9.1f GFLOP %8.1f GFLOP/s %6.1f %% of peak\n", name.c_str(), seconds, gflop, rate,
                100 * rate / peak_);
    static_cast<void>(std::fflush(stdout));
    passes.push_back({{"name", name},
                      {"seconds", seconds},
                      {"gflop", gflop},
                      {"gflops_per_second", rate},
                      {"share_of_peak", rate / peak_}});
  }
  json passes = json::array();

 private:
  double peak_;
};

// An RRDBNet of the given size with made-up weights, the same for each layer.
ModelPart<UpscalerConfig> some_rrdbnet(const RrdbnetConfig& config) {
  const std::int64_t width = config.num_feat, growth = config.num_grow_ch;
  const auto values = std::make_shared<std::vector<float>>(bench::some_values((width + 4 * growth) * width * 9, 0.01F));
  std::vector<HostTensor> tensors;
  const auto add = [&](const std::string& layer, std::int64_t in, std::int64_t out) {
    for (const auto& [tensor, shape] : {std::pair("weight", Shape{out, in, 3, 3}), {"bias", Shape{out}}}) {
      tensors.push_back({.name = layer + "." + tensor,
                         .dtype = DType::f32,
                         .shape = shape,
                         .data = reinterpret_cast<const std::byte*>(values->data()),
                         .owner = values});
    }
  };
  add("conv_first", 3, width);
  add("conv_body", width, width);
  for (int i = 1; i <= config.doublings; ++i) add("conv_up" + std::to_string(i), width, width);
  add("conv_hr", width, width);
  add("conv_last", width, 3);
  for (int block = 0; block < config.num_block; ++block) {
    for (int rdb = 1; rdb <= 3; ++rdb) {
      for (int conv = 1; conv <= 5; ++conv) {
        add(fmt::format("body.{}.rdb{}.conv{}", block, rdb, conv), width + (conv - 1) * growth,
            conv == 5 ? width : growth);
      }
    }
  }
  return {.config = config, .weights = value_or_throw(TensorMap::make("made-up weights", std::move(tensors)))};
}

void run_upscaler(Backend& backend, DType compute, int runs, Report& report) {
  constexpr int kSide = 256;
  Network network(backend);
  // Upscalers have no int8.
  const auto upscaler = make_upscaler(network, some_rrdbnet({}), compute == DType::i8 ? DType::bf16 : compute);
  const std::vector<float> picture(std::size_t{3} * kSide * kSide, 0.5F);
  const double seconds = bench::best_seconds(runs, [&] { (*upscaler)(picture, kSide, kSide); });
  report.pass("RRDBNet x4 256²", seconds, 1e-9 * static_cast<double>(network.flops()) / (runs + 1));
  backend.trim();
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Passes of full-size SDXL networks, beside the machine's measured peak"};
  std::string checkpoint_path;
  std::string precision = "bfloat16";
  std::string json_path;
  std::vector<int> sizes{512, 1024};
  int threads = 0;
  int runs = 3;
  bool only_peak = false;
  bool only_upscaler = false;
  app.add_option("checkpoint", checkpoint_path,
                 "A checkpoint; darkroom-make-model writes one from tests/reference/full-size");
  app.add_option("--precision", precision, "bfloat16, float32 or int8")
      ->check(CLI::IsMember({"bfloat16", "float32", "int8"}))
      ->capture_default_str();
  app.add_option("--sizes", sizes, "Sides of the pictures, pixels")->delimiter(',')->capture_default_str();
  app.add_option("--threads", threads, "0: one a core")->capture_default_str();
  app.add_option("--runs", runs, "Timed runs of each pass, the fastest counts")->capture_default_str();
  app.add_option("--json", json_path, "Also write the figures to this file");
  app.add_flag("--peak", only_peak, "Measure only the machine's peak");
  app.add_flag("--upscaler", only_upscaler, "Measure only an upscaler, whose weights are made up");
  CLI11_PARSE(app, argc, argv);

  const auto backend = make_cpu_backend({.threads = threads, .instruction_set = ""});
  const DType compute = precision == "float32" ? DType::f32 : precision == "int8" ? DType::i8 : DType::bf16;
  const int used_threads = threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency());
  // int8 is compared with the peak of bfloat16.
  const bench::Peak peak =
      bench::measure_peak(*backend, compute == DType::f32 ? DType::f32 : DType::bf16, used_threads, runs);
  std::printf("%-34s %14s %14s\n", "layer", "ours GFLOP/s", "oneDNN GFLOP/s");
  for (const auto& shape : peak.shapes)
    std::printf("%-34s %14.1f %14.1f\n", shape.name.c_str(), shape.ours, shape.onednn);
  std::printf("peak: linear %.1f, convolution %.1f, bare products %.1f GFLOP/s; shares below are of %.1f\n\n",
              peak.gemm, peak.conv, peak.instructions, peak.highest());
  backend->trim();
  if (only_peak) return 0;
  Report report(peak.highest());
  if (only_upscaler) {
    run_upscaler(*backend, compute, runs, report);
    return 0;
  }
  if (checkpoint_path.empty()) {
    static_cast<void>(std::fprintf(stderr, "darkroom-bench: a checkpoint is needed, or --peak or --upscaler\n"));
    return 2;
  }

  json summary;
  bench::forget_pages(checkpoint_path);
  const double read = seconds_once([&] { bench::read_through(checkpoint_path); });
  bench::forget_pages(checkpoint_path);
  Network text_l(*backend), text_g(*backend), unet_network(*backend), vae_network(*backend);
  std::optional<ClipTextEncoder> encoder_l, encoder_g;
  std::optional<Unet> unet;
  std::optional<VaeDecoder> decoder;
  Checkpoint files;
  const double load = seconds_once([&] {
    files = value_or_throw(open_checkpoint(checkpoint_path));
    encoder_l.emplace(text_l, *files.text_encoder->weights, files.text_encoder->config, compute);
    encoder_g.emplace(text_g, *files.text_encoder_2.weights, files.text_encoder_2.config, compute);
    unet.emplace(unet_network, *files.unet.weights, files.unet.config, compute);
    decoder.emplace(vae_network, *files.vae->weights, files.vae->config, compute);
  });
  const double laid_out =
      static_cast<double>(text_l.bytes() + text_g.bytes() + unet_network.bytes() + vae_network.bytes()) / (1ULL << 30U);
  std::printf("load %.2f s, reading the file alone %.2f s (%.2f times); laid out %.2f GiB\n", load, read, load / read,
              laid_out);

  constexpr int kLoraRank = 16;
  const bench::LoraSwitch lora =
      bench::measure_lora_switch({AdapterTarget::unet, &unet_network, files.unet.weights},
                                 checkpoint_path + ".lora.safetensors", kLoraRank, used_threads);
  std::printf(
      "LoRA of rank %d on every attention block, %.0f MiB, %zu parameters: on %.2f s, off %.2f s; reading it %.2f s "
      "and "
      "laying out alone %.2f s (%.2f times)\n",
      kLoraRank, lora.file_mib, lora.parameters, lora.put_on_seconds, lora.take_off_seconds, lora.read_seconds,
      lora.lay_out_seconds, lora.ratio());

  std::vector<int> ids(77, 49407);
  ids[0] = 49406;
  const double text = bench::best_seconds(runs, [&] {
    (*encoder_l)(ids, 1, 0);
    (*encoder_g)(ids, 1, 0);
  });
  std::printf("both text encoders, one prompt: %.3f s\n", text);

  for (const int size : sizes) {
    const std::int64_t side = size / 8;
    for (const int batch : {1, 2}) {
      const Tensor latents = some_tensor(*backend, {batch, side, side, 4});
      const Tensor context = some_tensor(*backend, {batch, 77, unet->config().cross_attention_dim});
      const Tensor pooled = some_tensor(*backend, {batch, 1280});
      const std::vector<float> time_ids(static_cast<std::size_t>(6 * batch), 512.0F);
      const float timestep = 500;
      const auto prompt = unet->prompt_keys(context);
      const auto time = unet->time_rows({.timesteps = std::span(&timestep, 1), .pooled = pooled, .time_ids = time_ids});
      const std::uint64_t before = unet_network.flops();
      const double seconds = bench::best_seconds(runs, [&] { (*unet)(latents, time[0], prompt); });
      const double gflop = 1e-9 * static_cast<double>(unet_network.flops() - before) / (runs + 1);
      report.pass("UNet " + std::to_string(size) + "², batch " + std::to_string(batch), seconds, gflop);
    }
    const Tensor latents = some_tensor(*backend, {1, side, side, 4});
    const std::uint64_t before = vae_network.flops();
    const double seconds = bench::best_seconds(1, [&] { (*decoder)(latents); });
    report.pass("VAE decode " + std::to_string(size) + "²", seconds,
                1e-9 * static_cast<double>(vae_network.flops() - before) / 2);
  }
  backend->trim();
  run_upscaler(*backend, compute, runs, report);
  std::printf("peak memory %.2f GiB, of which mapped files count\n", peak_memory_gib());
  if (!json_path.empty()) {
    summary = {{"precision", precision},
               {"peak_linear", peak.gemm},
               {"peak_convolution", peak.conv},
               {"peak_instructions", peak.instructions},
               {"load_seconds", load},
               {"read_seconds", read},
               {"lora_on_seconds", lora.put_on_seconds},
               {"lora_off_seconds", lora.take_off_seconds},
               {"lora_read_seconds", lora.read_seconds},
               {"lora_lay_out_seconds", lora.lay_out_seconds},
               {"text_seconds", text},
               {"laid_out_gib", laid_out},
               {"peak_memory_gib", peak_memory_gib()},
               {"passes", report.passes}};
    std::ofstream(json_path) << summary.dump(2) << '\n';
  }
  return 0;
} catch (const std::exception& error) {
  static_cast<void>(std::fprintf(stderr, "darkroom-bench: %s\n", error.what()));
  return 1;
}
