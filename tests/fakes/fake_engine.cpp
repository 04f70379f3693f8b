// engine::Engine without an engine: one-coloured pictures, and every way of going wrong, as words of the prompt ask:
//   slow   20 ms a step            hang  never looks at the cancel token and never ends
//   slower 200 ms a step
//   fail   Failure{corrupt_data}   oom   std::bad_alloc            crash  abort()
//   print  writes to standard output, as a careless library would
//   huge   predicts a need of 2^60 bytes     gigabyte predicts 10^9 bytes a picture
//   escape tries the network and another program, and warns of what came of it
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <thread>

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mapped_file.h"
#include "engine/image/codec.h"
#include "engine/pipeline/engine.h"

namespace darkroom::engine {
namespace {

bool asks(const GenerationSpec& spec, const char* word) { return spec.prompt.find(word) != std::string::npos; }

GeneratedPicture plain_picture(const GenerationSpec& spec, std::uint64_t seed) {
  GeneratedPicture picture{.seed = seed, .width = spec.width, .height = spec.height, .rgb = {}};
  picture.rgb.resize(static_cast<std::size_t>(spec.width) * static_cast<std::size_t>(spec.height) * 3);
  std::fill(picture.rgb.begin(), picture.rgb.end(), static_cast<std::uint8_t>(seed));
  return picture;
}

// The sides of what a request wants enlarged, which are its picture's, times the factor; in grey.
GenerationResult enlarged(const GenerationSpec& spec, ProgressSink& progress) {
  progress.stage("upscale");
  GeneratedPicture picture{.width = static_cast<int>(static_cast<float>(spec.width) * spec.upscale->factor),
                           .height = static_cast<int>(static_cast<float>(spec.height) * spec.upscale->factor)};
  picture.rgb.assign(static_cast<std::size_t>(picture.width) * static_cast<std::size_t>(picture.height) * 3, 128);
  GenerationResult result;
  result.device = "cpu";
  result.pictures.push_back(std::move(picture));
  return result;
}

std::vector<std::string> try_to_escape() {
  std::vector<std::string> warnings;
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  warnings.push_back(fd >= 0 ? "socket: done" : std::string("socket: ") + std::strerror(errno));
  if (fd >= 0) ::close(fd);
  const char* const arguments[] = {"/bin/true", nullptr};
  ::execve(arguments[0], const_cast<char* const*>(arguments), environ);
  warnings.push_back(std::string("execve: ") + std::strerror(errno));
  return warnings;
}

}  // namespace

struct Engine::State {
  EngineOptions options;
  std::map<std::filesystem::path, LoadedModel> loaded;
};

Result<Size> picture_size(const ImageSource& source) {
  const auto size_of_image = [](const Image& image) { return Size{.width = image.width, .height = image.height}; };
  if (!source.bytes.empty()) return decode_image(std::as_bytes(std::span(source.bytes))).map(size_of_image);
  return MappedFile::open(source.path)
      .and_then([](const auto& file) { return decode_image(file->bytes()); })
      .map(size_of_image);
}

Engine::Engine(const EngineOptions& options) : state_(std::make_unique<State>()) {
  if (options.device != "cpu" && options.device != "ref") {
    throw_failure(ErrorCode::invalid_argument, "this build has no device \"{}\"", options.device);
  }
  state_->options = options;
}

Engine::~Engine() = default;

GenerationResult Engine::generate(const GenerationSpec& spec, ProgressSink& progress, const CancelToken& cancel) {
  if (only_enlarges(spec)) return enlarged(spec, progress);
  progress.stage("load");
  load(ModelRole::checkpoint, spec.model, spec.precision);
  if (asks(spec, "crash")) std::abort();
  if (asks(spec, "oom")) throw std::bad_alloc();
  if (asks(spec, "fail")) throw_failure(ErrorCode::corrupt_data, "the fake engine was asked to fail");
  if (asks(spec, "print")) {
    std::puts("a stray print");
    std::fflush(stdout);
  }
  while (asks(spec, "hang")) std::this_thread::sleep_for(std::chrono::seconds(1));

  progress.stage("denoise");
  const std::vector<float> latents(static_cast<std::size_t>(spec.batch_size) * 2 * 3 * 4, 0.5F);
  const double seconds_per_step = asks(spec, "slower") ? 0.2 : asks(spec, "slow") ? 0.02 : 0.0;
  for (int step = 1; step <= spec.steps; ++step) {
    cancel.throw_if_cancelled();
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds_per_step));
    progress.step({.step = step,
                   .steps = spec.steps,
                   .picture_count = spec.batch_size,
                   .seconds_per_step = seconds_per_step,
                   .latents = latents,
                   .latent_height = 2,
                   .latent_width = 3});
  }
  cancel.throw_if_cancelled();
  GenerationResult result;
  result.stages = {{"load", 0.0}, {"denoise", spec.steps * seconds_per_step}};
  result.device = device();
  result.compute_type = "float32";
  result.scheduler = spec.scheduler.name.empty() ? "EulerDiscreteScheduler" : spec.scheduler.name;
  for (int i = 0; i < spec.batch_size; ++i) {
    result.pictures.push_back(plain_picture(spec, spec.seed + static_cast<std::uint64_t>(i)));
  }
  if (asks(spec, "escape")) result.warnings = try_to_escape();
  for (std::size_t i = 0; i < spec.controlnets.size(); ++i) result.control_maps.emplace_back(8, 8, 3);
  for (const LoraUse& lora : spec.loras) result.loaded_loras.push_back(lora.model);
  return result;
}

// One behind the other: what is shared shows in nothing but the time.
std::vector<JointOutcome> Engine::generate_together(std::span<const JointJob> jobs) {
  std::vector<JointOutcome> outcomes;
  for (const JointJob& job : jobs) {
    try {
      outcomes.emplace_back(generate(job.spec, job.progress, job.cancel));
      std::get<GenerationResult>(outcomes.back()).warnings.push_back(fmt::format("one of {}", jobs.size()));
    } catch (const Failure&) {
      outcomes.emplace_back(std::current_exception());
    }
  }
  return outcomes;
}

bool can_share_passes(const GenerationSpec& a, const GenerationSpec& b) {
  return a.model == b.model && a.width == b.width && a.height == b.height;
}

void Engine::load(ModelRole role, const std::filesystem::path& path, Precision) {
  state_->loaded[path] = {.path = path, .kind = std::string(name_of(role)), .bytes = 1};
}

bool Engine::unload(const std::filesystem::path& path) { return state_->loaded.erase(path) > 0; }

std::vector<LoadedModel> Engine::loaded() const {
  std::vector<LoadedModel> models;
  for (const auto& [path, model] : state_->loaded) models.push_back(model);
  return models;
}

std::uint64_t Engine::predict_bytes(const GenerationSpec& spec) const {
  if (asks(spec, "gigabyte")) return std::uint64_t{1'000'000'000} * static_cast<std::uint64_t>(spec.batch_size);
  return asks(spec, "huge") ? std::uint64_t{1} << 60 : 0;
}

std::string Engine::device() const { return state_->options.device; }

std::string Engine::compute_type() const { return "float32"; }

}  // namespace darkroom::engine
