#define DARKROOM_ISA avx2
#include "engine/backend/cpu/kernels.inc"
