#define DARKROOM_ISA avx512bf16
#include "engine/backend/cpu/kernels.inc"
