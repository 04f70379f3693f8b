#define DARKROOM_ISA baseline
#include "engine/backend/cpu/kernels.inc"
