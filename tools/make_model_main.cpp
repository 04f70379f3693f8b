// darkroom-make-model MANIFEST.json OUT [--dtype float16|float32|bfloat16]: writes the model that a manifest describes.
#include <cstdio>
#include <string_view>

#include "tools/model_writer.h"

int main(int argc, char** argv) {
  using darkroom::engine::DType;
  darkroom::tools::WriteModelOptions options;
  const auto usage = [] {
    std::fputs(
        "usage: darkroom-make-model MANIFEST.json OUTDIR|OUTFILE.safetensors [--dtype float16|float32|bfloat16]\n",
        stderr);
    return 2;
  };
  if (argc != 3 && argc != 5) return usage();
  if (argc == 5) {
    const std::string_view type = argv[4];
    if (std::string_view(argv[3]) != "--dtype") return usage();
    if (type == "float32") {
      options.dtype = DType::f32;
    } else if (type == "bfloat16") {
      options.dtype = DType::bf16;
    } else if (type != "float16") {
      return usage();
    }
  }
  if (const auto written = darkroom::tools::write_model(argv[1], argv[2], options); !written) {
    std::fprintf(stderr, "darkroom-make-model: %s\n", written.error().message.c_str());
    return 1;
  }
  return 0;
}
