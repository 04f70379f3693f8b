#include "engine/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <thread>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/error.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/memory_pool.h"

namespace darkroom::engine {
namespace {

using cpu::Kernels;
using cpu::Type;

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(Backend& backend, MemoryPool& pool, MemoryPool::Block block)
      : Buffer(backend, block.data, block.bytes), pool_(pool) {}
  ~CpuBuffer() override { pool_.give_back({data(), bytes()}); }

 private:
  MemoryPool& pool_;
};

// Panels of one convolution or linear layer; four of them, one for each parity of the result's pixels, where the
// layer doubles the picture first.
class CpuWeight final : public PackedWeight {
 public:
  CpuWeight(SpareBlock& spare, const WeightInfo& info, std::size_t kernel_bytes, int kernels, cpu::PanelType panel = {})
      : PackedWeight(info),
        panel_type(panel),
        spare_(spare),
        kernel_bytes_(kernel_bytes),
        bytes_(kernel_bytes * static_cast<std::size_t>(kernels)),
        data_(static_cast<std::byte*>(spare.take(bytes_))) {}
  ~CpuWeight() override { spare_.give_back(data_, bytes_); }

  std::size_t bytes() const override { return bytes_; }
  std::byte* kernel(int i) const { return data_ + kernel_bytes_ * static_cast<std::size_t>(i); }
  const cpu::PanelType panel_type;

 private:
  SpareBlock& spare_;
  std::size_t kernel_bytes_;
  std::size_t bytes_;
  std::byte* data_;
};

Type type_of(DType type) {
  switch (type) {
    case DType::bf16:
      return Type::bf16;
    case DType::i8:
      return Type::i8;
    default:
      return Type::f32;
  }
}

// Nothing for types that kernels do not read.
std::optional<cpu::FileType> file_type_of(DType type) {
  switch (type) {
    case DType::f32:
      return cpu::FileType::f32;
    case DType::f16:
      return cpu::FileType::f16;
    case DType::bf16:
      return cpu::FileType::bf16;
    case DType::f8_e4m3:
    case DType::f8_e5m2:
      return cpu::FileType::f8;
    default:
      return std::nullopt;
  }
}

// The value of each byte of an 8-bit float.
const float* f8_values(DType type) {
  const auto table_of = [](float (*value)(std::uint8_t)) {
    std::array<float, 256> table{};
    for (std::size_t bits = 0; bits < table.size(); ++bits) table[bits] = value(static_cast<std::uint8_t>(bits));
    return table;
  };
  static const std::array<float, 256> e4m3 = table_of(f8_e4m3_to_float);
  static const std::array<float, 256> e5m2 = table_of(f8_e5m2_to_float);
  return (type == DType::f8_e4m3 ? e4m3 : e5m2).data();
}

// A tensor as float32, which `floats` keeps.
cpu::FileValues as_floats(const HostTensor& tensor, std::vector<std::vector<float>>& floats) {
  auto& values = floats.emplace_back(static_cast<std::size_t>(tensor.elements()));
  to_float(tensor.dtype, tensor.data, values.data(), values.size());
  return {.data = values.data()};
}

// A tensor where it lies, if kernels read its type.
cpu::FileValues file_values(const HostTensor& tensor, std::vector<std::vector<float>>& floats) {
  const auto type = file_type_of(tensor.dtype);
  if (!type) return as_floats(tensor, floats);
  return {.type = *type, .data = tensor.data, .table = *type == cpu::FileType::f8 ? f8_values(tensor.dtype) : nullptr};
}

cpu::Act act_of(Activation activation) {
  switch (activation) {
    case Activation::none:
      return cpu::Act::none;
    case Activation::silu:
      return cpu::Act::silu;
    case Activation::gelu:
      return cpu::Act::gelu;
    case Activation::quick_gelu:
      return cpu::Act::quick_gelu;
    case Activation::relu:
      return cpu::Act::relu;
    case Activation::leaky_relu:
      return cpu::Act::leaky_relu;
  }
  return cpu::Act::none;
}

cpu::RowView view_of(const Tensor& x) { return {x.data<void>(), x.row_stride(), type_of(x.dtype())}; }
cpu::RowOut out_of(const Tensor& x) { return {x.data<void>(), x.row_stride(), type_of(x.dtype())}; }
const float* floats_of(const Tensor* x) { return x == nullptr ? nullptr : x->data<float>(); }

struct InstructionSet {
  std::string_view name;
  const Kernels& (*kernels)();
  bool (*available)();
};

#if defined(__x86_64__)
// x86-64-v3 and -v4, asked for by what both compilers can ask.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("bmi2") != 0;
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512cd") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0;
}
bool has_avx512bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}
// Linux gives a process tile registers when it asks for them (Documentation/arch/x86/xstate.rst).
bool has_amx() {
  constexpr unsigned kTiles = 1U << 24U | 1U << 25U | 1U << 22U;  // AMX-TILE, AMX-INT8 and AMX-BF16
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (!has_avx512bf16() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTiles) != kTiles)
    return false;
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

// The best first.
std::span<const InstructionSet> instruction_sets() {
  static constexpr std::array sets {
#if defined(__x86_64__)
    InstructionSet{"amx", cpu::amx::kernels, has_amx},
        InstructionSet{"avx512bf16", cpu::avx512bf16::kernels, has_avx512bf16},
        InstructionSet{"avx512", cpu::avx512::kernels, has_avx512},
        InstructionSet{"avx2", cpu::avx2::kernels, has_avx2},
#endif
        InstructionSet{"baseline", cpu::baseline::kernels, [] { return true; }},
  };
  return sets;
}

const Kernels& choose_kernels(const std::string& wanted) {
  for (const InstructionSet& set : instruction_sets()) {
    if ((wanted.empty() || wanted == set.name) && set.available()) return set.kernels();
  }
  throw_failure(ErrorCode::invalid_argument, "instruction set {} is not available on this machine", wanted);
}

// Operations a second of `rounds` products on each thread, the best of `runs`.
double product_rate(const Kernels& kernels, Type type, std::int64_t rounds, int threads, int runs) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    std::int64_t operations = 0;
    const auto start = Clock::now();
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : operations)
    for (int t = 0; t < threads; ++t) operations += kernels.bare_products(type, rounds);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, static_cast<double>(operations) / seconds);
  }
  return best;
}

// The instruction for bfloat16 does twice or half of float32's work in a time, depending on the processor (ADR 10), so
// it is measured: a millisecond, far from either answer's edge, once a process for each instruction set so that all of
// it agrees.
bool bf16_is_fast(const Kernels& kernels) {
  if (!kernels.native_bf16) return false;
  static std::mutex mutex;
  static std::map<const Kernels*, bool> known;
  const std::lock_guard lock(mutex);
  const auto [found, is_new] = known.try_emplace(&kernels);
  if (is_new) {
    constexpr std::int64_t kRounds = 10'000;
    double bf16 = 0;
    double f32 = 0;
    for (int turn = 0; turn < 3; ++turn) {  // by turns: what disturbs the machine disturbs both
      bf16 = std::max(bf16, product_rate(kernels, Type::bf16, kRounds, 1, 1));
      f32 = std::max(f32, product_rate(kernels, Type::f32, kRounds, 1, 1));
    }
    found->second = bf16 > 0.7 * f32;  // equal would do: bfloat16 is half the bytes
  }
  return found->second;
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// The offsets of a k×k kernel's taps from the result's pixel.
void set_taps(cpu::GemmArgs& gemm, int height, int width, int top, int left) {
  gemm.taps = height * width;
  for (int tap = 0; tap < gemm.taps; ++tap) {
    gemm.dy[tap] = tap / width - top;
    gemm.dx[tap] = tap % width - left;
  }
}

// Doubling a picture and convolving it 3×3 reads each of its pixels' copies in a pattern that depends on the parity of
// the result's position: rows {−1, 0} or {0, +1} of the small picture, the first holding one row of the kernel and the
// second two, or the reverse. So there are four 2×2 kernels of sums. weight [O, I, 3, 3] → [4][O, I, 2, 2].
std::vector<float> doubled_kernels(std::span<const float> weight, int threads) {
  const std::size_t count = weight.size() / 9;
  std::vector<float> kernels(4 * weight.size() / 9 * 4);
  // Which of the two taps row (or column) k of the kernel falls on.
  const auto tap_of = [](int parity, int k) { return parity == 0 ? (k == 0 ? 0 : 1) : (k == 2 ? 1 : 0); };
#pragma omp parallel for num_threads(threads)
  for (int parity = 0; parity < 4; ++parity) {
    float* kernel = kernels.data() + static_cast<std::size_t>(parity) * count * 4;
    for (std::size_t i = 0; i < count; ++i) {
      for (int ky = 0; ky < 3; ++ky) {
        for (int kx = 0; kx < 3; ++kx) {
          const int tap = tap_of(parity / 2, ky) * 2 + tap_of(parity % 2, kx);
          kernel[i * 4 + static_cast<std::size_t>(tap)] += weight[i * 9 + static_cast<std::size_t>(ky * 3 + kx)];
        }
      }
    }
  }
  return kernels;
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : kernels_(choose_kernels(options.instruction_set)),
        bf16_is_fast_(bf16_is_fast(kernels_)),
        threads_(options.threads > 0 ? options.threads : usable_cores()),
        zeros_(1 << 15),
        quantized_zeros_(1 << 15, 128) {}

  std::string_view name() const override { return "cpu"; }
  bool has_fast(DType compute) const override {
    return compute == DType::f32 || (compute == DType::bf16 && bf16_is_fast_) ||
           (compute == DType::i8 && kernels_.native_int8);
  }
  std::size_t weight_bytes(DType file, DType compute) const override {
    const bool widened = kernels_.widens && (file == DType::f16 || file == DType::bf16);
    return compute == DType::f32 && widened ? size_of(file) : size_of(compute);
  }

  std::shared_ptr<Buffer> allocate(std::size_t bytes) override {
    return std::make_shared<CpuBuffer>(*this, pool_, pool_.take(bytes));
  }
  void trim() override {
    pool_.trim();
    spare_weight_.trim();
  }

  void upload(const void* source, const Tensor& destination) override {
    std::memcpy(destination.data<void>(), source,
                static_cast<std::size_t>(destination.elements()) * size_of(destination.dtype()));
  }

  void download(const Tensor& source, void* destination) override {
    const std::size_t row = static_cast<std::size_t>(source.channels()) * size_of(source.dtype());
    const std::size_t stride = static_cast<std::size_t>(source.row_stride()) * size_of(source.dtype());
    for (std::int64_t r = 0; r < source.rows(); ++r) {
      std::memcpy(static_cast<std::byte*>(destination) + static_cast<std::size_t>(r) * row,
                  source.data<std::byte>() + static_cast<std::size_t>(r) * stride, row);
    }
  }

  std::shared_ptr<const PackedWeight> pack(const PackRequest& request) override {
    if (request.compute == DType::i8 && !kernels_.native_int8) {
      throw_failure(ErrorCode::unsupported, "instruction set {} has no int8 products", kernels_.name);
    }
    const Shape& shape = request.parts.front().tensor.shape;
    WeightInfo info{.use = request.use, .compute = request.compute, .in = shape[1]};
    if (shape.rank() == 4) {
      info.kernel_h = static_cast<int>(shape[2]);
      info.kernel_w = static_cast<int>(shape[3]);
    }
    for (const TensorSum& part : request.parts) info.out += part.tensor.shape[0];
    const bool geglu = request.use == WeightUse::linear_geglu;
    if (geglu) info.out /= 2;

    if (info.kernel_h * info.kernel_w > cpu::kMaxTaps) {
      throw_failure(ErrorCode::unsupported, "{}: a kernel of {}x{} is larger than {} taps",
                    request.parts.front().tensor.name, info.kernel_h, info.kernel_w, cpu::kMaxTaps);
    }
    const bool doubled = request.use == WeightUse::conv2d_upsample2x;
    DR_ASSERT(!doubled || request.parts.size() == 1);  // it becomes four kernels itself
    std::vector<std::vector<float>> floats;            // of tensors that kernels do not read
    std::vector<std::vector<cpu::PackProduct>> products;
    std::vector<cpu::PackRows> rows;
    for (const TensorSum& part : request.parts) {
      DR_ASSERT(!doubled || part.products.empty());
      auto& added = products.emplace_back();
      for (const LowRankProduct& product : part.products) {
        if (product.depth() == 0) continue;
        added.push_back({.left = file_values(product.left, floats),
                         .right = file_values(product.right, floats),
                         .depth = product.depth(),
                         .scale = product.scale});
      }
      rows.push_back({.values = doubled ? as_floats(part.tensor, floats) : file_values(part.tensor, floats),
                      .rows = part.tensor.shape[0],
                      .products = added.data(),
                      .product_count = static_cast<int>(added.size())});
    }

    const cpu::PanelType panel_type = panel_type_of(request);
    cpu::PackArgs args{.compute = panel_type == cpu::PanelType::bf16 ? Type::bf16 : type_of(request.compute),
                       .halves = panel_type == cpu::PanelType::f16,
                       .parts = rows.data(),
                       .part_count = static_cast<int>(rows.size()),
                       .outputs = info.out,
                       .channels = info.in,
                       .taps = info.kernel_h * info.kernel_w,
                       .geglu = geglu,
                       .threads = threads_};
    std::vector<float> kernels;
    if (doubled) {
      kernels = doubled_kernels(floats.front(), threads_);
      args.taps = 4;
    }
    const int count = doubled ? 4 : 1;
    auto weight = std::make_shared<CpuWeight>(spare_weight_, info,
                                              static_cast<std::size_t>(kernels_.packed_bytes(args)), count, panel_type);
    const auto scratch = allocate(static_cast<std::size_t>(kernels_.pack_scratch_bytes(args)));
    args.scratch = scratch->data();
    for (int i = 0; i < count; ++i) {
      if (doubled) rows.front().values.data = kernels.data() + static_cast<std::size_t>(i) * kernels.size() / 4;
      args.packed = weight->kernel(i);
      kernels_.pack(args);
    }
    return weight;
  }

  void linear(const LinearArgs& args, const Tensor& out) override {
    const auto& weight = static_cast<const CpuWeight&>(args.weight);
    const Tensor x = readable(args.x, weight.compute);
    cpu::GemmArgs gemm = gemm_of(x, weight, out, args);
    gemm.grid_w = gemm.in_w = gemm.out_w = x.rows();
    gemm.geglu = weight.use == WeightUse::linear_geglu;
    gemm.weight = weight.kernel(0);
    run(gemm);
  }

  void conv2d(const Conv2dArgs& args, const Tensor& out) override {
    const auto& weight = static_cast<const CpuWeight&>(args.weight);
    const Tensor x = readable(args.x, weight.compute);
    cpu::GemmArgs gemm = gemm_of(x, weight, out, args);
    gemm.pictures = args.x.dim(0);
    gemm.in_h = args.x.dim(1);
    gemm.in_w = args.x.dim(2);
    gemm.out_h = out.dim(1);
    gemm.out_w = out.dim(2);
    gemm.wrap_x = args.wrap_x;
    gemm.wrap_y = args.wrap_y;
    gemm.row_bias = floats_of(args.row_bias);
    if (args.row_bias != nullptr) gemm.row_bias_stride = args.row_bias->row_stride();
    gemm.slopes = floats_of(args.slopes);
    if (weight.use == WeightUse::conv2d_upsample2x) {
      gemm.grid_h = gemm.in_h;
      gemm.grid_w = gemm.in_w;
      gemm.step = 2;
      for (int parity = 0; parity < 4; ++parity) {
        gemm.offset_y = parity / 2;
        gemm.offset_x = parity % 2;
        set_taps(gemm, 2, 2, 1 - gemm.offset_y, 1 - gemm.offset_x);
        gemm.weight = weight.kernel(parity);
        run(gemm);
      }
      return;
    }
    gemm.grid_h = gemm.out_h;
    gemm.grid_w = gemm.out_w;
    gemm.stride = args.stride;
    set_taps(gemm, weight.kernel_h, weight.kernel_w, args.padding.top, args.padding.left);
    gemm.weight = weight.kernel(0);
    run(gemm);
  }

  void group_norm(const GroupNormArgs& args, const Tensor& out) override {
    cpu::GroupNormKernelArgs norm{.x = view_of(args.x),
                                  .pictures = out.dim(0),
                                  .pixels = out.dim(1) * out.dim(2),
                                  .channels = args.x.channels(),
                                  .groups = args.groups,
                                  .epsilon = args.epsilon,
                                  .gamma = args.gamma.data<float>(),
                                  .beta = args.beta.data<float>(),
                                  .act = act_of(args.activation),
                                  .out = out_of(out),
                                  .threads = threads_};
    if (args.x2 != nullptr) {
      norm.x2 = view_of(*args.x2);
      norm.channels2 = args.x2->channels();
    }
    if (args.joined != nullptr) norm.joined = out_of(*args.joined);
    if (!args.given.empty()) norm.given = &args.given.front().mean;
    run(norm);
  }

  void group_moments(const Tensor& x, int groups, std::span<Moments> found) override {
    static_assert(sizeof(Moments) == 2 * sizeof(double));
    run({.x = view_of(x),
         .pictures = x.dim(0),
         .pixels = x.dim(1) * x.dim(2),
         .channels = x.channels(),
         .groups = groups,
         .found = &found.front().mean,
         .threads = threads_});
  }

  void layer_norm(const LayerNormArgs& args, const Tensor& out) override {
    kernels_.layer_norm({.x = view_of(args.x),
                         .rows = out.rows(),
                         .channels = out.channels(),
                         .gamma = args.gamma.data<float>(),
                         .beta = args.beta.data<float>(),
                         .epsilon = args.epsilon,
                         .out = out_of(out),
                         .threads = threads_});
  }

  void attention(const AttentionArgs& args, const Tensor& out) override {
    // Pairs of bfloat16 need heads of an even width; others are computed in float32.
    const std::int64_t head_dim = args.q.channels() / args.heads;
    const bool pairs = args.q.dtype() == DType::bf16 && head_dim % 2 == 0;
    const DType type = pairs ? DType::bf16 : DType::f32;
    const Tensor q = converted(args.q, type);
    const Tensor k = converted(args.k, type);
    const Tensor v = converted(args.v, type);
    cpu::AttentionKernelArgs attention{.type = type_of(type),
                                       .q = q.data<void>(),
                                       .k = k.data<void>(),
                                       .v = v.data<void>(),
                                       .q_stride = q.row_stride(),
                                       .k_stride = k.row_stride(),
                                       .v_stride = v.row_stride(),
                                       .batch = q.dim(0),
                                       .queries = q.dim(1),
                                       .keys = k.dim(1),
                                       .head_dim = head_dim,
                                       .heads = args.heads,
                                       .scale = args.scale,
                                       .causal = args.causal,
                                       .out = out.data<void>(),
                                       .out_stride = out.row_stride(),
                                       .out_type = type_of(out.dtype()),
                                       .threads = threads_};
    const std::shared_ptr<Buffer> scratch =
        allocate(static_cast<std::size_t>(kernels_.attention_scratch_bytes(attention)));
    attention.packed = scratch->data();
    kernels_.attention(attention);
  }

  void activate(const Tensor& x, Activation activation, const Tensor& out) override {
    kernels_.map({.a = view_of(x),
                  .rows = x.rows(),
                  .channels = x.channels(),
                  .act = act_of(activation),
                  .out = out_of(out),
                  .threads = threads_});
  }

  void add(const Tensor& a, float scale_a, const Tensor& b, float scale_b, const Tensor& out) override {
    kernels_.map({.a = view_of(a),
                  .b = view_of(b),
                  .scale_a = scale_a,
                  .scale_b = scale_b,
                  .rows = a.rows(),
                  .channels = a.channels(),
                  .out = out_of(out),
                  .threads = threads_});
  }

  void upsample_nearest2x(const Tensor& x, const Tensor& out) override {
    const std::size_t row = static_cast<std::size_t>(x.channels()) * size_of(x.dtype());
    const std::int64_t height = out.dim(1);
    const std::int64_t width = out.dim(2);
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (std::int64_t line = 0; line < out.dim(0) * height; ++line) {
      const std::int64_t picture = line / height;
      const std::int64_t source = (picture * x.dim(1) + line % height / 2) * x.dim(2);
      for (std::int64_t px = 0; px < width; ++px) {
        std::memcpy(
            out.data<std::byte>() +
                static_cast<std::size_t>((line * width + px) * out.row_stride()) * size_of(x.dtype()),
            x.data<std::byte>() + static_cast<std::size_t>((source + px / 2) * x.row_stride()) * size_of(x.dtype()),
            row);
      }
    }
  }

  bool all_finite(const Tensor& x) override {
    return kernels_.all_finite(view_of(x), x.rows(), x.channels(), threads_);
  }

 private:
  void run(cpu::GemmArgs gemm) {
    const std::shared_ptr<Buffer> scratch = allocate(static_cast<std::size_t>(kernels_.gemm_scratch_bytes(gemm)));
    gemm.scratch = scratch->data();
    kernels_.gemm(gemm);
  }

  void run(cpu::GroupNormKernelArgs norm) {
    const auto doubles = static_cast<std::size_t>(kernels_.group_norm_scratch_doubles(norm));
    const std::shared_ptr<Buffer> scratch = allocate(doubles * sizeof(double));
    norm.scratch = static_cast<double*>(scratch->data());
    kernels_.group_norm(norm);
  }

  // x in the type that products are taken in: in bfloat16 with an even number of channels, the last one zero; in int8
  // quantised, rows [pixels, bytes].
  Tensor readable(const Tensor& x, DType compute) {
    if (compute == DType::i8) {
      const Shape bytes{x.rows(), kernels_.quantized_row_bytes(x.channels())};
      Tensor copy(allocate(static_cast<std::size_t>(bytes.elements())), bytes, DType::u8);
      kernels_.quantize(view_of(x), x.rows(), x.channels(), copy.data<void>(), threads_);
      return copy;
    }
    const std::int64_t channels = compute == DType::bf16 ? (x.channels() + 1) / 2 * 2 : x.channels();
    if (x.dtype() == compute && channels == x.channels()) return x;
    const Shape shape{1, 1, x.rows(), channels};
    Tensor copy(allocate(static_cast<std::size_t>(shape.elements()) * size_of(compute)), shape, compute);
    kernels_.map({.a = view_of(x),
                  .rows = x.rows(),
                  .channels = x.channels(),
                  .out = out_of(copy),
                  .pad_to = channels,
                  .threads = threads_});
    if (x.rank() != 4) return copy;
    return copy.reshape({x.dim(0), x.dim(1), x.dim(2), channels});
  }

  // For float32 products a file's 16 bits are enough.
  cpu::PanelType panel_type_of(const PackRequest& request) const {
    const DType type = request.parts.front().tensor.dtype;
    const bool as_in_file = request.use != WeightUse::conv2d_upsample2x &&  // whose kernels are sums
                            std::ranges::all_of(request.parts, [&](const TensorSum& part) {
                              return part.tensor.dtype == type && part.products.empty();
                            });
    if (!kernels_.widens || request.compute != DType::f32 || !as_in_file) return cpu::PanelType::as_computed;
    const bool even = request.parts.front().tensor.shape[1] % 2 == 0;
    return type == DType::f16            ? cpu::PanelType::f16
           : type == DType::bf16 && even ? cpu::PanelType::bf16
                                         : cpu::PanelType::as_computed;
  }

  Tensor converted(const Tensor& x, DType type) {
    if (x.dtype() == type) return x;
    Tensor copy(allocate(static_cast<std::size_t>(x.elements()) * size_of(type)), x.shape(), type);
    activate(x, Activation::none, copy);
    return copy;
  }

  // What linear layers and convolutions share.
  template <class Args>
  cpu::GemmArgs gemm_of(const Tensor& x, const CpuWeight& weight, const Tensor& out, const Args& args) {
    const void* zeros = weight.compute == DType::i8 ? static_cast<const void*>(quantized_zeros_.data()) : zeros_.data();
    DR_ASSERT(static_cast<std::size_t>(x.channels()) <= zeros_.size());
    cpu::GemmArgs gemm{.compute = type_of(weight.compute),
                       .x = x.template data<void>(),
                       .x_stride = x.row_stride(),
                       .channels = weight.in,
                       .zero_row = zeros,
                       .out = out.template data<void>(),
                       .out_stride = out.row_stride(),
                       .out_type = type_of(out.dtype()),
                       .panel_type = weight.panel_type,
                       .outputs = weight.out,
                       .bias = floats_of(args.bias),
                       .act = act_of(args.activation),
                       .scale = args.scale,
                       .threads = threads_};
    if (args.residual != nullptr) {
      gemm.residual = args.residual->template data<void>();
      gemm.residual_stride = args.residual->row_stride();
      gemm.residual_type = type_of(args.residual->dtype());
    }
    return gemm;
  }

  const Kernels& kernels_;
  const bool bf16_is_fast_;
  int threads_;
  // One pixel's worth, for what lies outside a picture.
  std::vector<float> zeros_;
  std::vector<std::uint8_t> quantized_zeros_;  // 128 is zero, and its factor then does not matter
  MemoryPool pool_;
  SpareBlock spare_weight_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) { return std::make_unique<CpuBackend>(options); }

double bare_product_rate(DType compute, int threads, int runs) {
  return 1e-9 * product_rate(choose_kernels({}), type_of(compute), 2'000'000, threads, runs);
}

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : instruction_sets()) {
    if (set.available()) names.emplace_back(set.name);
  }
  return names;
}

}  // namespace darkroom::engine
