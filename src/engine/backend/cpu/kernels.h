// What the kernels of one instruction set offer: plain functions over plain structs, so that a file compiled for a
// newer processor shares no inline code with the rest of the program. All arguments are valid.
#pragma once

#include <cstdint>

namespace darkroom::engine::cpu {

enum class Type : std::uint8_t { f32, bf16, i8 };
// How a weight lies in its panels: in the type that products are taken in; or, for float32 products, in the 16 bits
// that its file has, from which widening makes the same float32 again: float16, or pairs of bfloat16 as bfloat16
// products take them, which there must be an even number of channels for.
enum class PanelType : std::uint8_t { as_computed, f16, bf16 };
enum class Act : std::uint8_t { none, silu, gelu, quick_gelu, relu, leaky_relu };

constexpr int kMaxTaps = 9;

// y[m, n] = act(Σ_taps Σ_k x[row(m, tap), k] · w[n, tap, k] + bias + row_bias) · scale + residual
// A convolution finds the rows of x through its taps (Dukhan, "The Indirect Convolution Algorithm", 2019); a linear
// layer is one tap over a picture one pixel high.
struct GemmArgs {  // NOLINT(clang-analyzer-optin.performance.Padding): ordered for its reader
  Type compute = Type::f32;
  // x: pictures of in_h × in_w pixels, rows of `channels` values each (bf16: behind an odd one lies a zero; i8: as
  // quantize() makes them), x_stride elements from pixel to pixel.
  const void* x = nullptr;
  std::int64_t x_stride = 0;
  std::int64_t pictures = 1, in_h = 1, in_w = 1, channels = 0;
  const void* zero_row = nullptr;  // such a row of zeros: what lies outside the picture
  // The grid of results: pixel (y, x) of it reads (y·stride + dy[tap], x·stride + dx[tap]).
  std::int64_t grid_h = 1, grid_w = 1;
  int stride = 1;
  int taps = 1;
  int dy[kMaxTaps] = {};  // NOLINT(modernize-avoid-c-arrays): std::array is inline code of the library
  int dx[kMaxTaps] = {};  // NOLINT(modernize-avoid-c-arrays)
  bool wrap_x = false, wrap_y = false;
  // Where they go: grid pixel (y, x) is pixel (y·step + offset_y, x·step + offset_x) of out_h × out_w.
  std::int64_t out_h = 1, out_w = 1;
  int step = 1, offset_y = 0, offset_x = 0;
  void* out = nullptr;
  std::int64_t out_stride = 0;
  Type out_type = Type::f32;
  // The weight, as pack() laid it out.
  const void* weight = nullptr;
  PanelType panel_type = PanelType::as_computed;
  std::int64_t outputs = 0;  // columns of y
  bool geglu = false;        // columns of the weight are values and gates, interleaved in halves of a panel
  // Epilogue.
  const float* bias = nullptr;      // [outputs]; for geglu [2·outputs], the gates behind the values
  const float* row_bias = nullptr;  // one row a picture
  std::int64_t row_bias_stride = 0;
  const void* residual = nullptr;  // where out is
  std::int64_t residual_stride = 0;
  Type residual_type = Type::f32;
  Act act = Act::none;
  const float* slopes = nullptr;  // [outputs], leaky_relu's; null: as it is
  float scale = 1.0F;
  void* scratch = nullptr;  // gemm_scratch_bytes()
  int threads = 1;
};

// Dense values as they lie in a file.
enum class FileType : std::uint8_t { f32, f16, bf16, f8 };
struct FileValues {
  FileType type = FileType::f32;
  const void* data = nullptr;
  const float* table = nullptr;  // f8: the value of each byte
};
// scale·left[rows, depth]·right[depth, channels·taps]
struct PackProduct {
  FileValues left;
  FileValues right;
  std::int64_t depth = 0;
  float scale = 1.0F;
};
// A weight on its way into panels: `rows` source rows of [channels][taps].
struct PackRows {
  FileValues values;
  std::int64_t rows = 0;
  const PackProduct* products = nullptr;  // that are added on the way
  int product_count = 0;
};
struct PackArgs {
  Type compute = Type::f32;
  bool halves = false;  // float32 in the 16 bits of float16, which all parts are, without products: PanelType::f16
  const PackRows* parts = nullptr;
  int part_count = 0;
  std::int64_t outputs = 0;   // of the layer: half the rows for geglu
  std::int64_t channels = 0;  // of the file
  int taps = 1;
  bool geglu = false;
  void* packed = nullptr;
  void* scratch = nullptr;  // pack_scratch_bytes()
  int threads = 1;
};

struct AttentionKernelArgs {
  Type type = Type::f32;  // of q, k, v and the products
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  std::int64_t q_stride = 0, k_stride = 0, v_stride = 0;
  std::int64_t batch = 0, queries = 0, keys = 0, head_dim = 0;
  int heads = 1;
  float scale = 1.0F;
  bool causal = false;
  void* out = nullptr;
  std::int64_t out_stride = 0;
  Type out_type = Type::f32;
  void* packed = nullptr;  // attention_scratch_bytes()
  int threads = 1;
};

struct RowView {
  const void* data = nullptr;
  std::int64_t stride = 0;
  Type type = Type::f32;
};
struct RowOut {
  void* data = nullptr;
  std::int64_t stride = 0;
  Type type = Type::f32;
};

struct GroupNormKernelArgs {
  RowView x, x2;  // x2.data null: none
  std::int64_t pictures = 0, pixels = 0, channels = 0, channels2 = 0;
  int groups = 32;
  float epsilon = 0.0F;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  Act act = Act::none;
  RowOut out, joined;             // joined.data null: none
  const double* given = nullptr;  // [picture][group] mean and variance to normalise with; null: the inputs' own
  double* found = nullptr;        // the same of the inputs, which are then measured only
  double* scratch = nullptr;      // group_norm_scratch_doubles()
  int threads = 1;
};

struct LayerNormKernelArgs {
  RowView x;
  std::int64_t rows = 0, channels = 0;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  float epsilon = 0.0F;
  RowOut out;
  int threads = 1;
};

// out = act(a·scale_a + b·scale_b), rows of `channels`; b.data null: only a.
struct MapArgs {
  RowView a, b;
  float scale_a = 1.0F, scale_b = 0.0F;
  std::int64_t rows = 0, channels = 0;
  Act act = Act::none;
  RowOut out;
  std::int64_t pad_to = 0;  // channels of out beyond `channels`, up to this many, become zero
  int threads = 1;
};

struct Kernels {
  const char* name;
  bool native_bf16;  // has an instruction for bfloat16 products
  bool native_int8;  // has one for bytes; without it gemm takes no int8
  bool widens;       // has one from float16; without it all panels lie as computed
  // `rounds` of products of f32 or bf16 between registers on the calling thread; returns how many operations they are,
  // 0 without an instruction for them.
  std::int64_t (*bare_products)(Type, std::int64_t rounds);
  std::int64_t (*packed_bytes)(const PackArgs&);
  std::int64_t (*pack_scratch_bytes)(const PackArgs&);
  void (*pack)(const PackArgs&);
  // Rows of x, as gemm takes them for int8, lie one behind the other.
  std::int64_t (*quantized_row_bytes)(std::int64_t channels);
  void (*quantize)(const RowView&, std::int64_t rows, std::int64_t channels, void* out, int threads);
  std::int64_t (*gemm_scratch_bytes)(const GemmArgs&);
  void (*gemm)(const GemmArgs&);
  std::int64_t (*attention_scratch_bytes)(const AttentionKernelArgs&);
  void (*attention)(const AttentionKernelArgs&);
  std::int64_t (*group_norm_scratch_doubles)(const GroupNormKernelArgs&);
  void (*group_norm)(const GroupNormKernelArgs&);
  void (*layer_norm)(const LayerNormKernelArgs&);
  void (*map)(const MapArgs&);
  bool (*all_finite)(const RowView&, std::int64_t rows, std::int64_t channels, int threads);
};

namespace baseline {
const Kernels& kernels();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels& kernels();
}
namespace avx512 {
const Kernels& kernels();
}
namespace avx512bf16 {
const Kernels& kernels();
}
namespace amx {
const Kernels& kernels();
}
#endif

}  // namespace darkroom::engine::cpu
