#include "bench/passes.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "bench/peak.h"
#include "engine/backend/ops.h"
#include "engine/models/controlnet.h"
#include "engine/models/upscaler.h"

namespace darkroom::bench {
namespace {

using namespace engine;

Tensor some_tensor(Backend& backend, const Shape& shape) {
  return from_host(backend, some_values(shape.elements(), 1.0F), shape);
}

// The inputs of a UNet's pass; a ControlNet takes the same.
struct PassInputs {
  PassInputs(Backend& backend, const UnetConfig& config, int size, int batch)
      : latents(some_tensor(backend, {batch, size / 8, size / 8, 4})),
        context(some_tensor(backend, {batch, 77, config.cross_attention_dim})),
        pooled(some_tensor(backend, {batch, 1280})),
        time_ids(static_cast<std::size_t>(6 * batch), 512.0F) {}
  TimeInputs time() const { return {.timesteps = std::span(&timestep, 1), .pooled = pooled, .time_ids = time_ids}; }

  Tensor latents;
  Tensor context;
  Tensor pooled;
  std::vector<float> time_ids;
  float timestep = 500;
};

struct Timed {
  double seconds = 0;
  double gflop = 0;
};

// `pass` computes with `networks` alone.
Timed once(std::initializer_list<const Network*> networks, const std::function<void()>& pass) {
  const auto flops = [&] {
    std::uint64_t sum = 0;
    for (const Network* network : networks) sum += network->flops();
    return sum;
  };
  const std::uint64_t before = flops();
  const double seconds = seconds_of(pass);
  return {seconds, 1e-9 * static_cast<double>(flops() - before)};
}

// The fastest of `runs` after one that is not counted.
Timed timed(const Network& network, int runs, const std::function<void()>& pass) {
  Timed best = once({&network}, pass);
  for (int run = 0; run < runs; ++run) {
    const Timed now = once({&network}, pass);
    if (run == 0 || now.seconds < best.seconds) best = now;
  }
  return best;
}

// An RRDBNet of the given size with made-up weights, the same for each layer.
ModelPart<UpscalerConfig> some_rrdbnet(const RrdbnetConfig& config) {
  const std::int64_t width = config.num_feat, growth = config.num_grow_ch;
  const auto values = std::make_shared<std::vector<float>>(some_values((width + 4 * growth) * width * 9, 0.01F));
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

}  // namespace

LoadedCheckpoint::LoadedCheckpoint(Backend& backend, const std::filesystem::path& path, DType compute)
    : files(value_or_throw(open_checkpoint(path))),
      text_l(backend),
      text_g(backend),
      unet_network(backend),
      vae_network(backend) {
  encoder_l.emplace(text_l, *files.text_encoder->weights, files.text_encoder->config, compute);
  encoder_g.emplace(text_g, *files.text_encoder_2.weights, files.text_encoder_2.config, compute);
  unet.emplace(unet_network, *files.unet.weights, files.unet.config, compute);
  decoder.emplace(vae_network, *files.vae->weights, files.vae->config, compute);
}

void run_text(const LoadedCheckpoint& model, const PassOptions& options, Report& report) {
  std::vector<int> ids(77, 49407);
  ids[0] = 49406;
  const double seconds = best_seconds(options.runs, [&] {
    (*model.encoder_l)(ids, 1, 0);
    (*model.encoder_g)(ids, 1, 0);
  });
  report.line("both text encoders, one prompt: {:.3f} s", seconds);
  report.json["text_seconds"] = seconds;
}

void run_unet(const LoadedCheckpoint& model, const PassOptions& options, Report& report) {
  for (const int size : options.sizes) {
    for (const int batch : {1, 2}) {
      const PassInputs inputs(model.unet_network.backend(), model.unet->config(), size, batch);
      const auto prompt = model.unet->prompt_keys(inputs.context);
      const auto time = model.unet->time_rows(inputs.time());
      const auto [seconds, gflop] =
          timed(model.unet_network, options.runs, [&] { (*model.unet)(inputs.latents, time[0], prompt); });
      report.pass(fmt::format("UNet {}², batch {}", size, batch), seconds, gflop);
    }
  }
}

void run_vae(const LoadedCheckpoint& model, const PassOptions& options, Report& report) {
  for (const int size : options.sizes) {
    const Tensor latents = some_tensor(model.vae_network.backend(), {1, size / 8, size / 8, 4});
    const auto [seconds, gflop] = timed(model.vae_network, 1, [&] { (*model.decoder)(latents); });
    report.pass(fmt::format("VAE decode {}²", size), seconds, gflop);
    const Banding banding{.pixels = std::int64_t{size} * size / 4};
    const Timed bands = timed(model.vae_network, 1, [&] { model.decoder->in_bands(latents, banding); });
    report.pass(fmt::format("VAE decode {}², in bands", size), bands.seconds, bands.gflop);
  }
}

void run_controlnet(const LoadedCheckpoint& model, const std::filesystem::path& controlnet, const PassOptions& options,
                    Report& report) {
  constexpr int kBatch = 2;
  Backend& backend = model.unet_network.backend();
  const auto part = value_or_throw(open_controlnet(controlnet));
  Network network(backend);
  const ControlNet net(network, *part.weights, part.config, options.compute);
  const std::vector<float> scales(net.scale_count(), 1.0F);
  for (const int size : options.sizes) {
    const PassInputs inputs(backend, model.unet->config(), size, kBatch);
    const auto unet_prompt = model.unet->prompt_keys(inputs.context);
    const auto net_prompt = net.prompt_keys(inputs.context);
    const auto unet_time = model.unet->time_rows(inputs.time());
    const auto net_time = net.time_rows(inputs.time());
    const Tensor picture = net.embed(some_tensor(backend, {kBatch, size, size, 3}));
    // Each pass with the ControlNet lies between two without, whose mean it is held against: a machine whose speed
    // drifts slows all three. The first pass is not timed.
    const auto unet_pass = [&](const UnetCall& call) {
      (*model.unet)(inputs.latents, unet_time[0], unet_prompt, call);
    };
    const UnetCall controlled{.control = [&](EncoderStates& states) {
      net.add_to(
          states, 0,
          {.latents = inputs.latents, .picture = picture, .time = net_time[0], .prompt = net_prompt, .scales = scales});
    }};
    const auto without = [&] { return once({&model.unet_network}, [&] { unet_pass({}); }); };
    unet_pass(controlled);
    Timed alone = without();
    Timed both;
    std::vector<double> shares;
    for (int run = 0; run < options.runs; ++run) {
      const Timed now = once({&model.unet_network, &network}, [&] { unet_pass(controlled); });
      const Timed after = without();
      shares.push_back(2 * now.seconds / (alone.seconds + after.seconds) - 1);
      alone = after;
      if (run == 0 || now.seconds < both.seconds) both = now;
    }
    std::ranges::sort(shares);
    const auto share_at = [&](std::size_t quarter) { return shares[(shares.size() - 1) * quarter / 4]; };
    const double time_share = share_at(2);  // the median
    const double arithmetic_share = both.gflop / alone.gflop - 1;
    report.pass(fmt::format("UNet and ControlNet {}², batch {}", size, kBatch), both.seconds, both.gflop);
    report.line(
        "  the ControlNet adds {:.1f} % (quartiles {:.1f} and {:.1f}) to the UNet's time and {:.1f} % to its "
        "arithmetic",
        100 * time_share, 100 * share_at(1), 100 * share_at(3), 100 * arithmetic_share);
    report.json["controlnet"].push_back(
        {{"size", size}, {"adds_time", time_share}, {"adds_arithmetic", arithmetic_share}});
  }
}

void run_upscaler(Backend& backend, const PassOptions& options, Report& report) {
  constexpr int kSide = 256;
  Network network(backend);
  // Upscalers have no int8.
  const DType compute = options.compute == DType::i8 ? DType::bf16 : options.compute;
  const auto upscaler = make_upscaler(network, some_rrdbnet({}), compute);
  const std::vector<float> picture(std::size_t{3} * kSide * kSide, 0.5F);
  const auto [seconds, gflop] = timed(network, options.runs, [&] { (*upscaler)(picture, kSide, kSide); });
  report.pass("RRDBNet x4 256²", seconds, gflop);
  backend.trim();
}

}  // namespace darkroom::bench
