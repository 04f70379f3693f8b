#define DARKROOM_ISA avx512
#include "engine/backend/cpu/kernels.inc"
